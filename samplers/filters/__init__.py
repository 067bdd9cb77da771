"""Filters: what to keep of what was sampled."""

from .calibration import Calibrated, Calibration
from .conformal import conformal_bounds
from .filter import Filter, Sampling, Scores, Verdict
from .judged import Judge, Judged
from .path_length import PathLength
from .renoise import RenoiseProbe
from .variance import TrajectoryVariance

__all__ = [
    "Calibrated",
    "Calibration",
    "Filter",
    "Judge",
    "Judged",
    "PathLength",
    "RenoiseProbe",
    "Sampling",
    "Scores",
    "TrajectoryVariance",
    "Verdict",
    "conformal_bounds",
]

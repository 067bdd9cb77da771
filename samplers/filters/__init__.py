"""Filters: what to keep of what was sampled."""

from .calibration import Calibrated, Calibration
from .callback import FilterCallback
from .conformal import conformal_bounds
from .excess import ExcessError
from .filter import Filter, Sampling, Scores, Verdict
from .judged import Judge, Judged
from .path_length import PathLength
from .pictures import Seen, judge_pictures
from .renoise import RenoiseProbe
from .variance import TrajectoryVariance

__all__ = [
    "Calibrated",
    "Calibration",
    "ExcessError",
    "Filter",
    "FilterCallback",
    "Judge",
    "Judged",
    "PathLength",
    "RenoiseProbe",
    "Sampling",
    "Scores",
    "Seen",
    "TrajectoryVariance",
    "Verdict",
    "conformal_bounds",
    "judge_pictures",
]

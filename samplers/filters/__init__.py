"""Filters: what to keep of what was sampled."""

from .filter import Filter, Verdict
from .variance import TrajectoryVariance

__all__ = ["Filter", "TrajectoryVariance", "Verdict"]

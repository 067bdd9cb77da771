"""What a schedule is: the path from data to noise."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from .level import Level
from .scalar import Number

__all__ = ["Schedule", "entries", "first_t"]


@runtime_checkable
class Schedule(Protocol):
    """A path of noise levels: t in [0, 1], 0 is data and 1 is noise; log-SNR falls as t grows.

    Written with `schedules.scalar`, so that the same lines take a float and a tensor. `at_log_snr` is the exact inverse:
    its alpha and sigma are those of the path, also for a log-SNR that the path reaches only outside [0, 1]. A schedule that is
    a table says how many entries it has in an attribute `steps`; see `entries`.
    """

    def __call__(self, t: Number) -> Level:
        """The level at t, a float or a tensor (B,) in [0, 1]."""
        ...

    def at_log_snr(self, log_snr: Number) -> Level:
        """The level whose log(alpha^2 / sigma^2) is the given number, +-inf included."""
        ...


def entries(schedule: Schedule) -> int | None:
    """How many entries the table has that a schedule is, or was made of; at t = 1 / T, ..., 1. None: any t will do."""
    return getattr(schedule, "steps", None)


def first_t(schedule: Schedule) -> float:
    """The t of the cleanest level that a network is trained on: the first entry of a table, else data."""
    count = entries(schedule)
    return 1.0 / count if count else 0.0

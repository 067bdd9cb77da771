"""What number a network of diffusers is told as its time."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ..schedules.level import Level
from ..schedules.rows import EDM, Negative, Row
from ..schedules.schedule import Schedule, entries

__all__ = ["network_time"]


def network_time(
    schedule: Schedule, row: Row, clock: Callable[[Level], object] | None = None
) -> Callable[[Level], float]:
    """Level -> the number that a network of diffusers was trained on.

    On a table that is the index of the entry, i = t T - 1 since entry i stands at t = (i + 1) / T: a whole number on an entry, between
    two of them a fraction that is linear in log-SNR, as k-diffusion and diffusers' Euler tell it. On a straight path (flow matching) it
    is 1000 sigma, and for a row EDM log(sigma / alpha) / 4.

    Args:
        schedule, row: what the network was trained on.
        clock: level -> number, for a network that knows another time; None: as above.

    Raises:
        ValueError: for a path of another kind, without a clock.
    """
    if clock is not None:
        return partial(_told, clock)
    count = entries(schedule)
    if count is not None:
        return partial(_index, count)
    middle = schedule(0.5)
    if abs(middle.alpha + middle.sigma - 1.0) < 1e-12:
        return _thousandfold
    while isinstance(row, Negative):
        row = row.row
    if isinstance(row, EDM):
        return _quarter_log
    raise ValueError(
        f"schedule is {schedule}, which is no table: what number its network takes as time is not known; give clock, a function of the "
        "level, such as clock=TimeClock(1000) of sfumato.diffusion.clocks"
    )


def _told(clock: Callable[[Level], object], level: Level) -> float:
    return float(clock(level))  # pyright: ignore[reportArgumentType]


def _index(count: int, level: Level) -> float:
    """The entry of a level, a whole number where it stands on one but for rounding."""
    index = min(max(float(level.t) * count - 1.0, 0.0), count - 1.0)
    return float(round(index)) if abs(index - round(index)) < 1e-6 else index


def _thousandfold(level: Level) -> float:
    return 1000.0 * float(level.sigma)


def _quarter_log(level: Level) -> float:
    return math.log(float(level.ratio)) / 4

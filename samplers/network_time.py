"""What number a network of diffusers is told as its time."""

from __future__ import annotations

import math
from collections.abc import Callable

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
        return lambda level: float(clock(level))  # pyright: ignore[reportArgumentType]
    count = entries(schedule)
    if count is not None:
        return lambda level: _index(float(level.t), count)
    middle = schedule(0.5)
    if abs(middle.alpha + middle.sigma - 1.0) < 1e-12:
        return lambda level: 1000.0 * float(level.sigma)
    while isinstance(row, Negative):
        row = row.row
    if isinstance(row, EDM):
        return lambda level: math.log(level.ratio) / 4
    raise ValueError(
        f"schedule is {schedule}, which is no table: what number its network takes as time is not known; give clock, a function of the "
        "level, such as clock=TimeClock(1000) of sfumato.diffusion.clocks"
    )


def _index(t: float, count: int) -> float:
    """The entry at t, a whole number where t stands on one but for rounding."""
    index = min(max(t * count - 1.0, 0.0), count - 1.0)
    return float(round(index)) if abs(index - round(index)) < 1e-6 else index

"""What a grid is: at which levels a sampler is asked to stand. A sampler receives levels and never recomputes them.

A grid is a value, called with (schedule, steps): `trailing(schedule, 20)`, `Karras(rho=5)(schedule, 20)`. It returns steps + 1
levels, distinct and falling in noise: where the network is asked, and data at the end. On a table, grids in t stand on entries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from .level import Level
from .schedule import Schedule, entries

__all__ = ["ENTRIES", "Grid", "at_entries", "check_steps", "count_entries", "to_data"]

MOST_STEPS = 100_000
# T of a schedule that is no table, for the grids that count entries
ENTRIES = 1000


@runtime_checkable
class Grid(Protocol):
    """A choice of levels: distinct, from noise to data, steps + 1 of them."""

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        """The levels of a schedule for a number of steps, >= 1."""
        ...


def check_steps(steps: int) -> int:
    """Refuse a number of steps that is not a whole number from 1 to 100,000.

    Raises:
        ValueError: naming the value and the range.
    """
    if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps is {steps!r}; allowed: a whole number from 1 to {MOST_STEPS}")
    return steps


def count_entries(schedule: Schedule, steps: int) -> int:
    """The entries to count in: a table's, or 1000.

    Raises:
        ValueError: for more steps than a table has entries, and what check_steps refuses.
    """
    check_steps(steps)
    count = entries(schedule)
    if count is not None and steps > count:
        raise ValueError(f"steps is {steps}, but the table has {count} entries; allowed: at most that")
    return count or ENTRIES


def at_entries(schedule: Schedule, indices: Sequence[float]) -> list[Level]:
    """The levels of entries 0 ... T - 1 (of 1000 on a path that is no table); then data."""
    count = entries(schedule) or ENTRIES
    return to_data(schedule, [schedule((i + 1) / count) for i in indices])


def to_data(schedule: Schedule, levels: list[Level]) -> list[Level]:
    """The levels, and data: t = 0, or where the path would reach it."""
    end = schedule(0.0)
    return [*levels, end if end.sigma == 0 else schedule.at_log_snr(math.inf)._replace(t=0.0)]

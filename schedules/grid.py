"""What a grid is: at which levels a sampler is asked to stand. A sampler receives levels and never recomputes them.

A grid is a value, called with (schedule, steps): `trailing(schedule, 20)`, `Karras(rho=5)(schedule, 20)`. It returns steps + 1
levels, distinct and falling in noise: where the network is asked, and data at the end. On a table, grids in t stand on entries.
"""

from __future__ import annotations

import itertools
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
    """The levels, and data: t = 0, or where the path would reach it.

    Raises:
        ValueError: for levels that do not fall in noise, or lie beyond the ends of the path.
    """
    end = schedule(0.0)
    data = end if end.sigma == 0 else schedule.at_log_snr(math.inf)._replace(t=0.0)
    times = [float(level.t) for level in levels]
    if not all(-1e-9 <= t <= 1.0 + 1e-9 for t in times):
        raise ValueError(
            f"a grid asks for levels at t = {min(times):.6g} to {max(times):.6g} of {type(schedule).__name__}, which the network was not "
            "trained on; allowed: within [0, 1]"
        )
    found = [*(level._replace(t=min(max(t, 0.0), 1.0)) for level, t in zip(levels, times, strict=True)), data]
    for a, b in itertools.pairwise(found):
        if not a.log_snr < b.log_snr:
            raise ValueError(
                f"{len(levels)} levels of {type(schedule).__name__} do not fall in noise: log-SNR {float(a.log_snr):.6g} is followed by "
                f"{float(b.log_snr):.6g} (beyond about 700 float64 can't tell levels from data or noise: see Truncated)"
            )
    return found

"""A grid of levels that somebody chose."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from .grid import ENTRIES, at_entries, check_steps, to_data
from .level import Level
from .schedule import Schedule, entries

__all__ = ["Explicit"]


@dataclass(frozen=True)
class Explicit:
    """Levels that somebody chose, one number per step, then data.

    Args:
        values: one per step, from noise to data; the number of steps must be theirs.
        unit: what they are: "t", "log_snr", "ratio" (sigma / alpha), or "index" (entry of a table, 0 ... T - 1).

    Raises:
        ValueError: for no values or another unit, and, when called, for another number of steps or levels that do not fall.
    """

    values: Sequence[float]
    unit: Literal["t", "log_snr", "ratio", "index"] = "t"

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(float(v) for v in self.values))
        if self.unit not in ("t", "log_snr", "ratio", "index"):
            raise ValueError(f"Explicit.unit is {self.unit!r}; allowed: 't', 'log_snr', 'ratio', 'index'")
        if not self.values or not all(math.isfinite(v) for v in self.values):
            raise ValueError(f"Explicit.values is {list(self.values)}; allowed: at least one number, all finite")
        if (self.unit == "ratio" and min(self.values) <= 0) or (
            self.unit == "t" and not all(0 < v <= 1 for v in self.values)
        ):
            raise ValueError(f"Explicit.values is {list(self.values)}; allowed: ratios > 0, or t in (0, 1]")

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        if check_steps(steps) != len(self.values):
            raise ValueError(
                f"steps is {steps}, but Explicit has {len(self.values)} values; give steps={len(self.values)}"
            )
        rising = [-v if self.unit == "log_snr" else v for v in self.values]
        if not all(a > b for a, b in itertools.pairwise(rising)):
            raise ValueError(f"Explicit.values is {list(self.values)}; allowed: from noise to data, each once")
        if self.unit == "t":
            levels = to_data(schedule, [schedule(v) for v in self.values])
        elif self.unit == "index":
            count = entries(schedule) or ENTRIES
            if not all(0 <= v <= count - 1 for v in self.values):
                raise ValueError(f"Explicit.values holds an index outside the table; allowed: 0 to {count - 1}")
            levels = at_entries(schedule, self.values)
        else:
            as_log_snr = [v if self.unit == "log_snr" else -2.0 * math.log(v) for v in self.values]
            levels = to_data(schedule, [schedule.at_log_snr(v) for v in as_log_snr])
        return levels

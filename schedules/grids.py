"""Grids: at which levels a sampler is asked to stand. A sampler receives levels and never recomputes them.

A grid is a value, called with (schedule, steps): `trailing(schedule, 20)`, `Karras(rho=5)(schedule, 20)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from .level import Level
from .schedule import Schedule

__all__ = ["Grid", "Karras", "Trailing", "check_steps", "karras", "trailing"]

MOST_STEPS = 100_000


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


@dataclass(frozen=True)
class Trailing:
    """Uniform in t, from t = 1 down to and including t = 0: levels at 1 - i / steps.

    It starts at the top whatever the number of steps, so it is the default. Source: Lin et al. 2024 (2305.08891), section 3.3.
    """

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        check_steps(steps)
        return [schedule((steps - i) / steps) for i in range(steps + 1)]


@dataclass(frozen=True)
class Karras:
    """sigma / alpha uniform in its rho-th root, from high to low, then t = 0.

    Args:
        low: the last sigma / alpha before data, > 0.
        high: the first sigma / alpha, > low; a schedule that ends lower refuses it.
        rho: 0.1 to 1000; larger puts more steps near the data.

    Raises:
        ValueError: for other values, and, when called, where the schedule does not reach `high` or `low`.

    Source: Karras et al. 2022 (2206.00364), eq. 5.
    """

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high < math.inf and 0.1 <= self.rho <= 1000):
            raise ValueError(
                f"Karras(low={self.low}, high={self.high}, rho={self.rho}); allowed: 0 < low < high < inf, rho 0.1 to 1000"
            )

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        check_steps(steps)
        top, bottom = float(schedule(1.0).ratio), float(schedule(0.0).ratio)
        if self.high > top * (1 + 1e-9) or self.low <= bottom:
            raise ValueError(
                f"Karras(low={self.low}, high={self.high}): sigma / alpha of {type(schedule).__name__} runs from "
                f"{bottom:.6g} to {top:.6g}; choose low above and high at most that"
            )
        first, last = self.high ** (1 / self.rho), self.low ** (1 / self.rho)
        ratios = [(first + i / max(steps - 1, 1) * (last - first)) ** self.rho for i in range(steps)]
        return [*(schedule.at_log_snr(-2.0 * math.log(g)) for g in ratios), schedule(0.0)]


trailing = Trailing()
karras = Karras()

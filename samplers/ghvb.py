"""Generalised heavy-ball sampling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .state import Denoise, State, Vector, move
from .weights import mix

__all__ = ["GHVB", "split_order"]


def split_order(order: float) -> tuple[int, float]:
    """3.8 -> (4, 0.8): four terms with momentum 0.8. Whole numbers, to 1e-3, have none: (k, 1.0)."""
    k = max(1, math.ceil(order - 1e-3))
    b = order - (k - 1)
    return k, 1.0 if abs(b - 1.0) < 1e-3 else b


def _row(k: int, b: float) -> list[float]:
    """The weights of (v, v_prev, ...): order k and momentum b; Adams-Bashforth at b = 1. Each row sums to 1."""
    numerators, divisor = {
        1: ([1.0], 1.0),
        2: ([2 + b, -(2 - b)], 2 * b),
        3: ([18 + 5 * b, -(24 - 8 * b), 6 - b], 12 * b),
        4: ([46 + 9 * b, -(78 - 19 * b), 42 - 5 * b, -(10 - b)], 24 * b),
        5: ([1650 + 251 * b, -(3420 - 646 * b), 2880 - 264 * b, -(1380 - 106 * b), 270 - 19 * b], 720 * b),
    }[k]
    return [n / divisor for n in numerators]


@dataclass(frozen=True)
class GHVB:
    """v = (1 - b) v + b eps; z' = z + (g' - g) sum_j c_j v_{n-j}: high order with momentum b, for few steps at strong guidance.

    A fractional order o uses k = ceil(o) terms and b = o - (k - 1): 3.8 is four terms with b = 0.8, 4 is Adams-Bashforth 4
    (PLMS). The coefficients assume uniform steps in g = sigma / alpha; on other grids the order is 2 at most.

    Args:
        order: in (0, 5]; less momentum and more stability below the next whole number. The paper uses 3.1 to 3.9.

    Raises:
        ValueError: for an order outside (0, 5].

    Source: Wizadwongsa et al. 2024 (2307.11118), section 4.2 and appendix.
    """

    order: float = 3.8

    def __post_init__(self) -> None:
        if not 1e-3 < self.order <= 5.0:
            raise ValueError(f"GHVB.order is {self.order}; allowed: above 0 to 5 (the paper uses 3.1 to 3.9)")

    @property
    def draws(self) -> int:
        return 0

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        k, b = split_order(self.order)
        p = denoise(state.x, now)
        if not state.memory:
            return State(move(p, now, nxt), (p.eps,)), p
        v = p.eps if b == 1.0 else (1.0 - b) * state.memory[0] + b * p.eps
        history = (v, *state.memory)[:k]
        return State(move(p, now, nxt, eps=mix(_row(len(history), b), history)), history), p

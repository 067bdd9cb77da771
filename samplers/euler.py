"""Euler's method, and its ancestral form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.scalar import minimum
from .state import Denoise, State, Vector, move, renewed

__all__ = ["Euler"]


@dataclass(frozen=True)
class Euler:
    """z' = z + (g_down - g) eps + g_up xi with z = x / alpha, g = sigma / alpha, g_down^2 + g_up^2 = g'^2: order 1.

    g_up = min(g', eta g' sqrt(1 - (g' / g)^2)). eta 0 is Euler's method, the same map as DDIM(0) on any path; eta 1 is "Euler a", the
    same as DDIM(1). Beyond 1 more noise is drawn, up to all of it.

    Args:
        eta: share of the noise that is drawn anew, >= 0.

    Raises:
        ValueError: for a negative or infinite eta.

    Source: Karras et al. 2022 (2206.00364), algorithm 1 without its correction; the ancestral form is k-diffusion's
        `sample_euler_ancestral`, of Song et al. 2021 (2010.02502), eq. 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta < math.inf:
            raise ValueError(f'Euler.eta is {self.eta}; allowed: >= 0 (0 is deterministic, 1 is "Euler a")')

    @property
    def draws(self) -> int:
        return int(self.eta > 0)

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        p = denoise(state.x, now)
        if not self.eta:
            return State(move(p, now, nxt)), p
        fresh = nxt.sigma * minimum(renewed(now, nxt, self.eta), 1.0)
        return State(move(p, now, nxt, fresh=fresh, z=z[0])), p

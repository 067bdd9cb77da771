"""DDIM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .state import Denoise, State, Vector, move, renewed

__all__ = ["DDIM"]


@dataclass(frozen=True)
class DDIM:
    """x' = alpha' x0 + sqrt(sigma'^2 - f^2) eps + f z, with f = eta sigma' sqrt(1 - (g' / g)^2) and g = sigma / alpha.

    eta 0 is the probability-flow ODE by Euler's method in g, of order 1; eta 1 is ancestral DDPM with the small variance.

    Args:
        eta: share of the noise that is drawn anew, in [0, 1].

    Raises:
        ValueError: for eta outside [0, 1].

    Source: Song et al. 2021 (2010.02502), eq. 12 and 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.eta <= 1.0:
            raise ValueError(f"DDIM.eta is {self.eta}; allowed: 0 (deterministic) to 1 (DDPM)")

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
        return State(move(p, now, nxt, fresh=nxt.sigma * renewed(now, nxt, self.eta), z=z[0])), p

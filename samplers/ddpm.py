"""Ancestral DDPM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.scalar import divide, relu, sqrt
from .state import Denoise, State, Vector, move

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM:
    """x' drawn from the posterior of x' given x and the predicted x0; no noise in the step that reaches the data.

    beta = sigma^2 - (alpha / alpha')^2 sigma'^2 is the variance of x given x'. "small" draws the posterior's own variance,
    (sigma' / sigma)^2 beta, and equals DDIM(eta=1); "large" draws beta, right for data of unit variance on a variance-preserving
    schedule. On a grid with fewer steps beta is that of the longer step.

    Args:
        variance: "small" or "large".

    Raises:
        ValueError: for another variance.

    Source: Ho et al. 2020 (2006.11239), eq. 6-7 and section 3.2.
    """

    variance: Literal["small", "large"] = "small"

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large"):
            raise ValueError(f"DDPM.variance is {self.variance!r}; allowed: 'small', 'large'")

    @property
    def draws(self) -> int:
        return 1

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        p = denoise(state.x, now)
        beta = relu(now.sigma**2 - divide(now.alpha, nxt.alpha) ** 2 * nxt.sigma**2)
        small = divide(nxt.sigma, now.sigma) * sqrt(beta)
        x = move(p, now, nxt, fresh=small, z=z[0])
        if self.variance == "large":
            x = x + (sqrt(beta) - small) * (nxt.sigma > 0) * z[0]
        return State(x), p

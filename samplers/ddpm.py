"""Ancestral DDPM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.scalar import divide, minimum, relu, sqrt, where
from .state import Denoise, State, Vector, move

__all__ = ["DDPM"]


@dataclass(frozen=True)
class DDPM:
    """x' drawn from the posterior of x' given x and the predicted x0; no noise in the step that reaches the data.

    beta = sigma^2 - (alpha / alpha')^2 sigma'^2 is the variance of x given x'. "small" draws the posterior's own variance,
    (sigma' / sigma)^2 beta, and equals DDIM(eta=1); "large" draws beta, right for data of unit variance on a variance-preserving
    schedule; "learned" draws between them, in the logarithm, as far as the network's second answer says. On a grid with fewer
    steps beta is that of the longer step.

    Args:
        variance: "small", "large" or "learned".

    Raises:
        ValueError: for another variance; in a step, for "learned" with a network that learns none.

    Source: Ho et al. 2020 (2006.11239), eq. 6-7 and section 3.2; Nichol & Dhariwal 2021 (2102.09672), eq. 15.
    """

    variance: Literal["small", "large", "learned"] = "small"

    def __post_init__(self) -> None:
        if self.variance not in ("small", "large", "learned"):
            raise ValueError(f"DDPM.variance is {self.variance!r}; allowed: 'small', 'large', 'learned'")

    @property
    def draws(self) -> int:
        return 1

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        p = denoise(state.x, now)
        beta = relu(now.sigma**2 - divide(now.alpha, nxt.alpha) ** 2 * nxt.sigma**2)
        small = minimum(divide(nxt.sigma, now.sigma), 1.0) * sqrt(beta)  # upward beta is 0, the ratio may be infinite
        x = move(p, now, nxt, fresh=small, z=z[0])
        if self.variance == "large":
            x = x + (sqrt(beta) - small) * (nxt.sigma > 0) * z[0]
        if self.variance == "learned" and not (isinstance(nxt.sigma, float) and nxt.sigma == 0):
            if p.variance is None:
                raise ValueError(
                    "DDPM(variance='learned') needs a network that learns its variance (backbone.out_channels twice the data's, "
                    "objective: Hybrid; a diffusers network with twice the channels); use 'small' or 'large' for this one"
                )
            # log-variance (1 + o) / 2 of the way from small to large, in a form that is finite where small is 0
            share = (1.0 + p.variance) / 2.0
            std = where(nxt.sigma > 0, small, 1.0) ** (1.0 - share) * sqrt(beta) ** share
            x = x + where(nxt.sigma > 0, std - small, 0.0 * std) * z[0]
        return State(x), p

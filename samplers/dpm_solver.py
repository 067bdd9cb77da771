"""DPM-Solver++, multistep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.scalar import divide, relu, sqrt
from .state import Denoise, State, Vector, move
from .weights import exponential_means, lagrange, mix, usable

__all__ = ["DPMSolverPP"]


def _clock(level: Level) -> float:
    return float(level.half_log_snr)


@dataclass(frozen=True)
class DPMSolverPP:
    """z' = e^-h z + (1 - e^-h) D~: D~ is the mean of the predicted data over the step, h its length in half log-SNR.

    Order 2 (2M): D~ = D + h / (2 h_prev) (D - D_prev). Order 3 (3M): the exponential mean of the parabola through three D's. The
    first steps use the order that their memory allows; a step of infinite length is of order 1.

    Args:
        order: 1, 2 or 3.
        eta: 0 for the ODE, 1 for the SDE (SDE-DPM-Solver++); any value between interpolates, >= 0.
        solver: the mean through two D's, in order 2 and in the second step of order 3: "midpoint" as above, or "heun", exact for
            a D that is linear in half log-SNR; both of order 2.
        legacy: order 3 as published, in DPM-Solver's repository, diffusers and k-diffusion: half of the curvature, and so of
            order 2. For pictures made with them; k-diffusion's second step is "heun".

    Raises:
        ValueError: for other values.

    Source: Lu et al. 2022 (2211.01095), algorithm 2; the curvature of order 3 carries the factor 2 that published code lacks.
    """

    order: int = 2
    eta: float = 0.0
    solver: Literal["midpoint", "heun"] = "midpoint"
    legacy: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or isinstance(self.order, bool) or self.order not in (1, 2, 3):
            raise ValueError(f"DPMSolverPP.order is {self.order}; allowed: 1, 2, 3")
        if not 0.0 <= self.eta < math.inf:
            raise ValueError(f"DPMSolverPP.eta is {self.eta}; allowed: >= 0 (0 is the ODE, 1 the SDE)")
        if self.solver not in ("midpoint", "heun"):
            raise ValueError(f"DPMSolverPP.solver is {self.solver!r}; allowed: 'midpoint', 'heun'")
        if self.legacy and self.order != 3:
            raise ValueError(f"DPMSolverPP.legacy with order {self.order}; allowed: with order 3, which it changes")

    @property
    def draws(self) -> int:
        return int(self.eta > 0)

    def weights(self, past: Sequence[Level], now: Level, nxt: Level, held: int) -> list[float]:
        """Weights of (D, D_prev, ...) in the mean D~, for `held` remembered predictions."""
        nodes = [reading - _clock(now) for reading in usable(_clock, past, now, nxt, held)]
        if not nodes:
            return [1.0]
        h = _clock(nxt) - _clock(now)
        if len(nodes) == 1 and self.solver == "midpoint":
            return [1.0 - h / (2 * nodes[0]), h / (2 * nodes[0])]
        moments = exponential_means(h, (1.0 + self.eta) * h, len(nodes) + 1)
        if self.legacy and len(nodes) == 2:
            moments[2] /= 2
        return lagrange([0.0, *nodes], moments)

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *past, now, nxt = levels
        p = denoise(state.x, now)
        history = (p.x0, *state.memory)
        w = self.weights(past, now, nxt, len(state.memory))
        mean = mix(w, history[: len(w)]) if len(w) > 1 else None
        memory = history[: self.order - 1]
        if not self.eta:
            return State(move(p, now, nxt, x0=mean), memory), p
        fresh = nxt.sigma * sqrt(relu(1.0 - divide(nxt.ratio, now.ratio) ** (2 * self.eta)))
        return State(move(p, now, nxt, x0=mean, fresh=fresh, z=z[0]), memory), p

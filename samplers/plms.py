"""PLMS: Adams-Bashforth in the transformed ODE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.schedule import Schedule
from .adams import ADAMS, variable_adams
from .heun import Heun
from .path import at_ratio, known, plain
from .state import Denoise, State, Vector, move
from .weights import mix, usable

__all__ = ["PLMS"]


def _ratio(level: Level) -> float:
    return float(level.ratio)


@dataclass(frozen=True)
class PLMS:
    """z' = z + (g' - g) sum_j c_j eps_{n-j} with z = x / alpha, g = sigma / alpha, and Adams-Bashforth's numbers c.

    The constant numbers, as published, are those of equal steps in g: on any other grid the order is 2 at most. `variable` computes
    them for the steps there are (LMS of k-diffusion) and keeps the order, as far as the start does: from a first step of one
    evaluation (Euler) or two (Heun) the order is 2, from Runge-Kutta steps (four evaluations each, in the first order - 1) it is `order`.

    Args:
        order: 1 to 5, terms.
        variable: numbers for the steps there are.
        warm_up: how the first steps are made: "euler"; "heun", PNDM's own in Stable Diffusion; or "rk4".
        path: for "rk4", the schedule of the levels; None: the model's.

    Raises:
        ValueError: for other values; in a step, for "rk4" without a path.

    Source: Liu et al. 2022 (2202.09778), PNDM; Zhang & Chen 2022 (2204.13902) for variable steps.
    """

    order: int = 4
    variable: bool = False
    warm_up: Literal["euler", "heun", "rk4"] = "euler"
    path: Schedule | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or isinstance(self.order, bool) or self.order not in ADAMS:
            raise ValueError(f"PLMS.order is {self.order}; allowed: 1 to 5")
        if self.warm_up not in ("euler", "heun", "rk4"):
            raise ValueError(f"PLMS.warm_up is {self.warm_up!r}; allowed: 'euler', 'heun', 'rk4'")

    @property
    def draws(self) -> int:
        return 0

    def weights(self, past: Sequence[Level], now: Level, nxt: Level, held: int) -> list[float]:
        """Weights of (eps, eps_prev, ...) in the mean over the step, for `held` remembered predictions."""
        if not self.variable:
            return ADAMS[held + 1]
        readings = usable(_ratio, past, now, nxt, held)
        return variable_adams(_ratio(now), _ratio(nxt), readings) if readings else [1.0]

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *past, now, nxt = levels
        p = denoise(state.x, now)
        history = (p.eps, *state.memory)
        if self.warm_up == "heun" and not state.memory:
            state, p = Heun().step(state, lambda x, level: p if level is now else denoise(x, level), levels, z)
            return State(state.x, history[: self.order - 1]), p
        if self.warm_up == "rk4":
            plain(self, now, nxt)
            finite = math.isfinite(now.ratio) and math.isfinite(nxt.ratio) and nxt.ratio > 0
            if finite and len(usable(_ratio, past, now, nxt, len(state.memory))) < self.order - 1:
                return State(self._runge_kutta(p, denoise, now, nxt), history[: self.order - 1]), p
        w = self.weights(past, now, nxt, len(state.memory))
        eps = mix(w, history[: len(w)]) if len(w) > 1 else None
        return State(move(p, now, nxt, eps=eps), history[: self.order - 1]), p

    def _runge_kutta(self, p: Prediction, denoise: Denoise, now: Level, nxt: Level) -> Vector:
        """The classical step of order 4, in g."""
        middle = at_ratio(known(self.path, self, now, nxt), (now.ratio + nxt.ratio) / 2)
        second = denoise(move(p, now, middle), middle)
        third = denoise(move(p, now, middle, eps=second.eps), middle)
        fourth = denoise(move(p, now, nxt, eps=third.eps), nxt)
        return move(p, now, nxt, eps=(p.eps + 2 * second.eps + 2 * third.eps + fourth.eps) / 6)

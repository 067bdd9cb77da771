"""Heun's method, as in EDM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .state import Denoise, State, Vector, move

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun:
    """z' = z + (g' - g) (eps(z, g) + eps(z_euler, g')) / 2 with z = x / alpha, g = sigma / alpha: order 2, two evaluations.

    Euler's method alone in the step that reaches the data (g' = 0) and in one that leaves pure noise (g infinite).

    Source: Karras et al. 2022 (2206.00364), algorithm 1.
    """

    @property
    def draws(self) -> int:
        return 0

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        p = denoise(state.x, now)
        x = move(p, now, nxt)
        finite = (nxt.sigma > 0) & (now.alpha > 0) & (nxt.alpha > 0)
        if not isinstance(finite, Tensor):
            if not finite:
                return State(x), p
            q = denoise(x, nxt)
            return State(move(p, now, nxt, eps=0.5 * p.eps + 0.5 * q.eps)), p
        q = denoise(x, nxt)
        return State(torch.where(finite, move(p, now, nxt, eps=0.5 * p.eps + 0.5 * q.eps), x)), p

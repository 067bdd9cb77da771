"""Any sampler, with what the network believes of the data cut to the range of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..schedules.level import Level
from ..schedules.prediction import Prediction, from_x0
from .ddim import DDIM
from .jump import refuse_jump
from .path import plain
from .state import Denoise, Sampler, State, Vector, check_within

__all__ = ["Clipped"]


@dataclass(frozen=True)
class Clipped:
    """x0 is cut to [-limit, limit] in every answer, and eps is made to agree: (x - alpha x0) / sigma. For data in pixels only.

    Not linear, so it runs as it is written.

    Args:
        sampler: what makes the step.
        limit: of the data, > 0.
        keep_eps: leave eps as it was, so that the two disagree; what DDIM of diffusers does.

    Raises:
        ValueError: for a limit that is not above 0.

    Source: Ho et al. 2020 (2006.11239), the code; clip_sample of diffusers.
    """

    sampler: Sampler = field(default_factory=DDIM)
    limit: float = 1.0
    keep_eps: bool = False

    def __post_init__(self) -> None:
        check_within(self, "sampler", self.sampler, Sampler)
        if not 0.0 < self.limit < math.inf:
            raise ValueError(f"Clipped.limit is {self.limit}; allowed: above 0 (1 for data in [-1, 1])")

    @property
    def draws(self) -> int:
        return self.sampler.draws

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        plain(self, *levels[-2:])

        def clipped(x: Vector, level: Level) -> Prediction:
            p = denoise(x, level)
            refuse_jump(self, p, "cut what it denoises with: guidance Threshold(CFGPlusPlus(...))")
            x0 = p.x0.clamp(-self.limit, self.limit)
            eps = p.eps if self.keep_eps else from_x0(x, level, x0).eps
            return Prediction.pair(x0, eps, p.variance)

        return self.sampler.step(state, clipped, levels, z)

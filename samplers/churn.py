"""EDM's churn: noise is added before a step, and the step removes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.schedule import Schedule
from .heun import Heun
from .path import at_ratio, known, plain
from .state import Denoise, Sampler, State, Vector, check_within

__all__ = ["Churn"]


@dataclass(frozen=True)
class Churn:
    """Before a step with low <= g <= high: z += noise sqrt(g_hat^2 - g^2) xi with g_hat = (1 + gamma) g, and the step starts at g_hat.

    EDM's stochastic sampler is Churn(Heun()). At the noisiest level of the path there is nothing above, so g_hat stops there.

    Args:
        sampler: what makes the step; one that remembers nothing (Heun, Euler, DDIM, DPMSolver2, ...).
        gamma: how much g grows, in [0, sqrt(2) - 1]: min(S_churn / steps, sqrt(2) - 1) of the paper. EDM's ImageNet-64:
            40 / 256 = 0.156 with low 0.05, high 50, noise 1.003; CIFAR-10: 0.
        low, high: in sigma / alpha (S_min, S_max), 0 <= low <= high.
        noise: standard deviation of xi (S_noise), > 0.
        path: the schedule of the levels; None: the model's.

    Raises:
        ValueError: for values out of range; in a step, without a path, and for a sampler that remembers.

    Source: Karras et al. 2022 (2206.00364), algorithm 2 and table 5.
    """

    sampler: Sampler = field(default_factory=Heun)
    gamma: float = 0.15625
    low: float = 0.05
    high: float = 50.0
    noise: float = 1.003
    path: Schedule | None = None

    def __post_init__(self) -> None:
        check_within(self, "sampler", self.sampler, Sampler)
        if not 0.0 <= self.gamma <= math.sqrt(2) - 1 + 1e-9:
            raise ValueError(
                f"Churn.gamma is {self.gamma}; allowed: 0 to sqrt(2) - 1 = 0.4142 (S_churn / steps of EDM)"
            )
        if not 0.0 <= self.low <= self.high:
            raise ValueError(f"Churn(low={self.low}, high={self.high}); allowed: 0 <= low <= high, in sigma / alpha")
        if not 0.0 < self.noise < math.inf:
            raise ValueError(f"Churn.noise is {self.noise}; allowed: above 0 (EDM: 1.003 to 1.007)")

    @property
    def draws(self) -> int:
        return 1 + self.sampler.draws

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *past, now, nxt = levels
        plain(self, now, nxt)
        if not (self.gamma and self.low <= now.ratio <= self.high and math.isfinite(now.ratio)):
            return self._forgetful(self.sampler.step(state, denoise, levels, z[1:]))
        path = known(self.path, self, now, nxt)
        hat = at_ratio(path, min(now.ratio * (1.0 + self.gamma), path(1.0).ratio))
        std = self.noise * math.sqrt(max(0.0, hat.ratio**2 - now.ratio**2))
        x = hat.alpha / now.alpha * state.x + hat.alpha * std * z[0]
        return self._forgetful(self.sampler.step(State(x), denoise, [*past, hat, nxt], z[1:]))

    def _forgetful(self, result: tuple[State, Prediction]) -> tuple[State, Prediction]:
        if result[0].memory:
            raise ValueError(
                f"Churn.sampler is {self.sampler}, which remembers something of levels that churn has left; allowed: methods of one step "
                "(Heun, Euler, DDIM, DDPM, DPMSolver2, DPMSolverPP2S). For noise with a multistep method take DPMSolverPP(eta=1)"
            )
        return result

"""Heavy-ball momentum on a multistep method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .dpm_solver import DPMSolverPP
from .plms import PLMS
from .state import Denoise, Sampler, State, Vector, move
from .weights import mix

__all__ = ["HeavyBall", "Multistep"]


@runtime_checkable
class Multistep(Sampler, Protocol):
    """A sampler whose step goes along a mean of what it remembers."""

    @property
    def order(self) -> int:
        """How many predictions the mean is over."""
        ...

    def weights(self, past: Sequence[Level], now: Level, nxt: Level, held: int) -> list[float]:
        """Weights of (now, before, ...) in the mean over the step, for `held` remembered predictions."""
        ...


@dataclass(frozen=True)
class HeavyBall:
    """v = (1 - beta) v + beta f, and the step goes along v: f is what the base method would go along.

    On PLMS f is its mean of eps, z' = z + (g' - g) v, v = eps at first. On DPMSolverPP f is its mean of the data,
    z' = e^-h z + (1 - e^-h) v; first-order steps carry no momentum. Momentum enlarges the region of stability by 2 / beta - 1, so that
    few steps at strong guidance diverge less, and costs the order: it is 1 for every base. beta 1 is the base.

    Args:
        base: PLMS (started by Euler) or DPMSolverPP (deterministic, order 2 or 3).
        beta: share of the new direction, in (0, 1]; 0.8 to 0.9 in the paper. PLMS(4) with 0.8 is the paper's order 3.8.
        nesterov: step along (1 - beta) v + beta f of the new v.

    Raises:
        ValueError: for values out of range, and other bases.

    Source: Wizadwongsa et al. 2024 (2307.11118), section 4.1 and appendix.
    """

    base: Multistep = field(default_factory=PLMS)
    beta: float = 0.8
    nesterov: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.beta <= 1.0:
            raise ValueError(
                f"HeavyBall.beta is {self.beta}; allowed: in (0, 1] (1 is no momentum, the paper uses 0.8 to 0.9)"
            )
        if isinstance(self.base, PLMS):
            if self.base.warm_up != "euler":
                raise ValueError(f"HeavyBall.base is {self.base}; allowed with momentum: warm_up 'euler'")
        elif not isinstance(self.base, DPMSolverPP):
            raise ValueError(f"HeavyBall.base is {self.base!r}; allowed: a PLMS or a DPMSolverPP")
        elif self.base.eta or self.base.order == 1:
            raise ValueError(
                f"HeavyBall.base is {self.base}; allowed: eta 0 and order 2 or 3 (momentum is on the means of several predictions; "
                "for one, take PLMS(1))"
            )

    @property
    def draws(self) -> int:
        return 0

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *past, now, nxt = levels
        p = denoise(state.x, now)
        b, on_eps = self.beta, isinstance(self.base, PLMS)
        fresh = p.eps if on_eps else p.x0
        if not state.memory:
            return State(move(p, now, nxt), (fresh, fresh)[: 1 if self.base.order == 1 else 2]), p
        v, *old = state.memory
        history = (fresh, *old)
        w = self.base.weights(past, now, nxt, len(old))
        memory = history[: self.base.order - 1]
        if not on_eps and len(w) == 1:  # a step of infinite length
            return State(move(p, now, nxt), (v, *memory)), p
        f = mix(w, history[: len(w)])
        if not on_eps and not self._carried(past, now):
            v = f
        v = (1 - b) * v + b * f
        u = (1 - b) * v + b * f if self.nesterov else v
        return State(move(p, now, nxt, eps=u) if on_eps else move(p, now, nxt, x0=u), (v, *memory)), p

    def _carried(self, past: Sequence[Level], now: Level) -> bool:
        """Whether the step before was of second order or more, so that there is an average to go on with."""
        *earlier, before = past
        return len(self.base.weights(earlier, before, now, min(self.base.order - 1, len(earlier)))) > 1

"""A predictor's step, then a corrector at the level it led to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .ddim import DDIM
from .langevin import Corrector, Langevin
from .state import Denoise, Sampler, State, Vector, check_within
from .unipc import UniPC

__all__ = ["PredictorCorrector", "Rule"]


@runtime_checkable
class Rule(Protocol):
    """A guidance rule, as far as a sampler needs to know one."""

    def init(self, x: Tensor) -> Any:
        """The rule's memory at first."""
        ...

    def __call__(self, ask: Any, memory: Any) -> Any:
        """A guided prediction, and the next memory."""
        ...


@dataclass(frozen=True)
class PredictorCorrector:
    """The predictor moves from now to nxt, then the corrector moves within nxt; not where nxt is data or pure noise.

    With `rule`, the corrector sees the model under a guidance of its own, which decides by the level nxt. Predictor-corrector guidance
    is guidance Plain for the predictor DDIM() and rule CFG(2 w - 1) for one Langevin step: in the limit of small steps that is DDPM under
    CFG(w), and with many Langevin steps it samples the power of the classifier that CFG only seems to.

    Args:
        predictor: any sampler but UniPC, whose own corrector goes back to where its last step began.
        corrector: such as Langevin.
        rule: a guidance rule for the corrector; None: the predictor's.

    Raises:
        ValueError: for UniPC as a predictor; in a step, for a rule where the model has no branches.

    Source: Song et al. 2021 (2011.13456), algorithm 1; Bradley & Nakkiran 2024 (2408.09000) for guidance.
    """

    predictor: Sampler = field(default_factory=DDIM)
    corrector: Corrector = field(default_factory=Langevin)
    rule: Rule | None = None

    def __post_init__(self) -> None:
        check_within(self, "predictor", self.predictor, Sampler)
        if not isinstance(self.corrector, Corrector):
            raise ValueError(
                f"PredictorCorrector.corrector is {self.corrector!r}; allowed: a corrector, such as Langevin()"
            )
        inner: Any = self.predictor
        while inner is not None:
            if isinstance(inner, UniPC):
                raise ValueError(
                    "PredictorCorrector.predictor is UniPC, which corrects its own steps from where they began and would undo what the "
                    "corrector did; allowed: any other sampler, such as DPMSolverPP"
                )
            inner = getattr(inner, "sampler", None) or getattr(inner, "predictor", None)

    @property
    def draws(self) -> int:
        return self.predictor.draws + self.corrector.draws

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *_, now, nxt = levels
        state, p = self.predictor.step(state, denoise, levels, z[: self.predictor.draws])
        if nxt.is_scalar and not (nxt.sigma and nxt.alpha):  # data, or pure noise: nothing to correct
            return state, p
        guided = denoise
        if self.rule is not None:
            under = getattr(denoise, "under", None)
            if under is None:
                raise ValueError(
                    f"PredictorCorrector.rule is {self.rule}, but the model has no branches to guide by; leave rule out, or sample "
                    "through `Model.sample` or a guidance `Field`"
                )
            guided = under(self.rule)
        x = self.corrector.correct(state.x, guided, now, nxt, z[self.predictor.draws :])
        if not nxt.is_scalar:
            x = torch.where(torch.as_tensor((nxt.sigma > 0) & (nxt.alpha > 0)), x, state.x)
        return State(x, state.memory), p

"""The rules that every other one is measured by: none, and classifier-free guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

from torch import Tensor

from ..schedules.prediction import Prediction, lerp
from .ask import Ask
from .tree import Tree

__all__ = ["CFG", "Plain", "check_scale"]


@dataclass(frozen=True)
class Plain:
    """The conditional model, unguided: one evaluation."""

    def init(self, x: Tensor) -> Tree:
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        (cond,) = ask("cond")
        return cond, memory


@dataclass(frozen=True)
class CFG:
    """ref + scale * (cond - ref): classifier-free guidance, two evaluations in one call.

    One convention everywhere: scale 1 is the conditional model and 0 the reference, each at one evaluation. Linear, so the same
    in x0, eps, v or any other prediction. The paper's w is scale - 1.

    Args:
        scale: strength, any finite number; 1 to 15 in practice. A sequence has one number per picture; those of scale 1 cost one
            evaluation.
        against: the branch to steer away from: "ref" (unconditional), "negative" (a negative prompt), "weak" (a weaker network).

    Raises:
        ValueError: for a scale that is not finite; when asked, for a sequence of another length than there are pictures.

    Source: Ho & Salimans 2022 (2207.12598), eq. 6.
    """

    scale: float | Sequence[float] = 3.0
    against: str = "ref"

    def __post_init__(self) -> None:
        check_scale("CFG", self.scale)

    def init(self, x: Tensor) -> Tree:
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        if self.scale in (0.0, 1.0):
            (only,) = ask("cond" if self.scale else self.against)
            return only, memory
        on = ask.where("CFG.scale", self.scale, lambda v: v != 1.0)
        cond, ref = (ask if on is None else ask.only(on))("cond", self.against)
        return lerp(ref, cond, ask.each("CFG.scale", self.scale)), memory


def check_scale(name: str, scale: float | Sequence[float]) -> None:
    """Refuse a scale that is not finite, or an empty sequence of them.

    Raises:
        ValueError: naming the rule.
    """
    scales = scale if isinstance(scale, Sequence) else [scale]
    numbers = all(isinstance(v, Real) and not isinstance(v, bool) and math.isfinite(v) for v in scales)
    if not scales or isinstance(scale, str | bytes) or not numbers:
        raise ValueError(
            f"{name}.scale is {scale!r}; allowed: a finite number (1 is unguided, 3 is moderate), or one per picture"
        )

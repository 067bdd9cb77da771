"""The rules that every other one is measured by: none, and classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..schedules.prediction import Prediction, lerp
from .ask import Ask
from .checks import check_branch, check_scale
from .tree import Tree

__all__ = ["CFG", "Plain", "steer"]


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
        check_branch(self, self.against)

    def init(self, x: Tensor) -> Tree:
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        return steer(ask, "CFG.scale", self.scale, self.against), memory


def steer(ask: Ask, name: str, scale: float | Sequence[float], against: str) -> Prediction:
    """against + scale * (cond - against); scales 1 and 0 ask one branch.

    Args:
        ask: where.
        name: of the scale, for messages.
        scale: one number, or one per picture.
        against: the branch to steer away from.
    """
    if not isinstance(scale, Sequence) and scale in (0.0, 1.0):
        (only,) = ask("cond" if scale else against)
        return only
    on = ask.where(name, scale, lambda v: v != 1.0)
    cond, ref = (ask if on is None else ask.only(on))("cond", against)
    return lerp(ref, cond, ask.each(name, scale))

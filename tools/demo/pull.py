"""How far a rule of guidance pulls at each step, seen while it is at work, without asking the network once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from ...guidance import Ask, Guidance, Tree
from ...schedules import Level, Prediction

__all__ = ["Observed", "Pull"]


class Pull(NamedTuple):
    """What a rule did where a step began.

    size: how far its prediction of x0 is from the one without guidance at the same x, root mean square; None: nobody asked that one.
    steered: whether it guided there.
    """

    size: float | None
    steered: bool


@dataclass(frozen=True, repr=False)
class Observed:
    """A rule that does as the one within it, and notes how far that pulls, of the first picture of a batch.

    The conditional prediction that it is compared with has been asked for already, so the evaluations, and every bit of what is
    predicted, are those of the rule alone.

    Args:
        rule: the rule.
    """

    rule: Guidance
    pulls: dict[int, Pull] = field(default_factory=dict, init=False, compare=False)

    def __repr__(self) -> str:
        return repr(self.rule)

    def init(self, x: Tensor) -> Tree:
        return self.rule.init(x)

    def check(self, levels: Sequence[Level]) -> None:
        check = getattr(self.rule, "check", None)
        if check is not None:
            check(levels)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        p, after = self.rule(ask, memory)
        if ask.first:  # further evaluations of a step are its method's own affair
            others = any(
                bool(ask.asked(name)[0]) for name in ask.branches if name != "cond" and not ask.same(name, "cond")
            )
            size = None
            if bool(ask.asked("cond")[0]):
                (cond,) = ask("cond")
                apart = ((p.toward or p).x0[:1] - cond.x0[:1]).float()
                size = float(apart.square().mean().sqrt())
            self.pulls[ask.step] = Pull(size, others or bool(size))
        return p, after

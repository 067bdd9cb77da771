"""The vector field of a step: branches under a rule, as a plain `denoise` that any sampler takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .ask import Ask, Guidance
from .branch import Branch
from .rules import Plain
from .space import check_levels
from .tree import Tree, check_batch

__all__ = ["Field"]


class Field:
    """Branches under a rule.

    A step is one vector field: every evaluation of a step reads the memory that the step began with, and the first one alone
    writes the next. So Heun's second stage, or a corrector, cannot move the memory of a rule half-way. The loop says when a step
    begins.

    Args:
        branches: by name; "cond" must be there.
        rule: the guidance rule.
        size: samples in the batch, for counting.
        slots: int64 (size,) on the host: which of `count` pictures these are, for rules with a number per picture; None: 0 to size - 1.
        count: pictures in all; None: as many as the batch has, with slots one more than the largest of them.

    Raises:
        ValueError: without a branch "cond", and for a condition that has not one row per sample.
    """

    def __init__(
        self, branches: Mapping[str, Branch], rule: Guidance, size: int, slots: Tensor | None = None, count: int | None = None
    ) -> None:  # fmt: skip
        if "cond" not in branches:
            raise ValueError(f"branches are {', '.join(map(repr, branches)) or 'none'}; one must be named 'cond'")
        for name, branch in branches.items():
            check_batch(branch.condition, size, f"the condition of branch {name!r}")
        self.branches, self.rule = branches, rule
        self.spent = torch.zeros(size, len(branches), dtype=torch.int64)
        self.slots, self.count = slots, size if slots is None else count
        self.start()

    def check(self, levels: Sequence[Level]) -> None:
        """Refuse levels at which a network, or the rule in its space, says nothing (PairingError), before it is asked."""
        for branch in self.branches.values():
            check_levels(branch.network, levels)
        check_levels(self.rule, levels)

    def start(self) -> None:
        """A trajectory begins: the rule has no memory yet. The count of evaluations goes on."""
        self.now: Level | None = None
        self.nxt: Level | None = None
        self.step = -1
        self._memory: list[Tree] = []
        self._next: list[Tree] = []
        self._others: list[Field] = []

    def begin(self, now: Level, nxt: Level | None = None) -> None:
        """A step begins at `now`, and leads to `nxt`."""
        self.now, self.nxt = now, nxt
        self._turn()
        for other in self._others:
            other._turn()

    def _turn(self) -> None:
        self.step += 1
        if self._next:
            self._memory, self._next = self._next, []

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """What the guided model believes at (x, level)."""
        if not self._memory:
            self._memory = [self.rule.init(x)]
        ask = Ask(
            self.branches, x, level, self.now or level, self.spent, nxt=self.nxt, step=max(self.step, 0), slots=self.slots,
            count=self.count, first=not self._next,
        )  # fmt: skip
        p, memory = _answered(self.rule, self.rule(ask, self._memory[0]))
        if not self._next:
            self._next = [memory]
        return p

    @property
    def plain(self) -> Field:
        """The conditional model alone, for filters that look again: what guidance makes of a picture is no reconstruction of it."""
        return self.under(Plain())

    def under(self, rule: Guidance) -> Field:
        """The same branches and count under another rule, for a corrector with a guidance of its own: it decides by its own level, and
        remembers from step to step of this trajectory."""
        for other in self._others:
            if other.rule == rule:
                return other
        other = Field(self.branches, rule, len(self.spent), self.slots, self.count)
        other.spent, other.step = self.spent, self.step
        self._others.append(other)
        return other


def _answered(rule: Guidance, answer: object) -> tuple[Prediction, Tree]:
    """What a rule returned, refused where it is not what a rule returns.

    Raises:
        ValueError: naming the rule and what it returned.
    """
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Prediction):
        return answer
    name = type(rule).__name__
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], tuple):
        raise ValueError(
            f'{name} answered with a tuple; it must answer with one prediction. ask(...) returns a tuple: (cond,) = ask("cond")'
        )
    shown = ", ".join(type(v).__name__ for v in answer) if isinstance(answer, tuple) else type(answer).__name__
    raise ValueError(f"{name} returned ({shown}); a guidance rule returns (Prediction, memory), such as (p, memory)")

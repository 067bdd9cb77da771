"""The vector field of a step: branches under a rule, as a plain `denoise` that any sampler takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .ask import Ask, Branch, Guidance
from .tree import Tree

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

    Raises:
        ValueError: without a branch "cond".
    """

    def __init__(self, branches: Mapping[str, Branch], rule: Guidance, size: int) -> None:
        if "cond" not in branches:
            raise ValueError(f"branches are {', '.join(map(repr, branches)) or 'none'}; one must be named 'cond'")
        self.branches, self.rule = branches, rule
        self.spent = torch.zeros(size, len(branches), dtype=torch.int64)
        self.start()

    def check(self, levels: Sequence[Level]) -> None:
        """Refuse levels at which a network says nothing (PairingError), before it is asked."""
        for branch in self.branches.values():
            check = getattr(branch.network, "check", None)
            if check is not None:
                check(levels)

    def start(self) -> None:
        """A trajectory begins: the rule has no memory yet. The count of evaluations goes on."""
        self.now: Level | None = None
        self._memory: list[Tree] = []
        self._next: list[Tree] = []

    def begin(self, now: Level) -> None:
        """A step begins at `now`."""
        self.now = now
        if self._next:
            self._memory, self._next = self._next, []

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        """What the guided model believes at (x, level)."""
        if not self._memory:
            self._memory = [self.rule.init(x)]
        p, memory = self.rule(Ask(self.branches, x, level, self.now or level, self.spent), self._memory[0])
        if not self._next:
            self._next = [memory]
        return p

    def under(self, rule: Guidance) -> Field:
        """The same branches and count under another rule, for a corrector with a guidance of its own: it decides by its own level."""
        other = Field(self.branches, rule, len(self.spent))
        other.spent = self.spent
        return other

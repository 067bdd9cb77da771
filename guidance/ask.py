"""How a rule asks the branches of a model, and what else it may know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .answers import Answers
from .branch import Branch
from .missing import WrongCount
from .tree import Tree

__all__ = ["Ask", "Guidance"]


@runtime_checkable
class Guidance(Protocol):
    """A guidance rule: asks the branches it needs and answers with one prediction.

    A rule may have a method `check(levels)`, which refuses levels before the first evaluation.
    """

    def init(self, x: Tensor) -> Tree:
        """The memory of the rule before the first step, a tree of batch-first tensors; () when it has none."""
        ...

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        """One evaluation: the prediction, and the memory of the next step."""
        ...


@dataclass(frozen=True)
class Ask:
    """One evaluation at (x, level): `cond, ref = ask("cond", "ref")`. Asked twice is paid once.

    branches: by name; "cond" is the one that guidance steers towards. x: (B, ...). level: where it is asked. now: where the step
    began; decide by this one. spent: int64 (B, branches) on the host, evaluations so far. nxt: where the step leads, None where
    nobody says. step: number of the step, from 0. slots: int64 (B,) on the host, which of `count` pictures these are. on: for which
    samples other branches than "cond" are asked, bool (B,) on the host; None: all (see `only`). answers: those of this evaluation.
    first: whether it is the first evaluation of its step, the one whose memory is kept.
    """

    branches: Mapping[str, Branch]
    x: Tensor
    level: Level
    now: Level
    spent: Tensor
    nxt: Level | None = None
    step: int = 0
    slots: Tensor | None = None
    count: int | None = None
    on: Tensor | None = None
    answers: Answers | None = None
    first: bool = True

    def __post_init__(self) -> None:
        if self.answers is None:
            object.__setattr__(self, "answers", Answers(self.branches, self.x, self.level, self.spent))

    def __call__(self, *names: str) -> tuple[Prediction, ...]:
        """The predictions of the named branches.

        Raises:
            MissingBranch: for a name that is not a branch.
            ValueError: for branches of one network whose conditions differ in structure.
        """
        assert self.answers is not None
        return self.answers.get(names, self.on)

    def only(self, on: Tensor) -> Ask:
        """The same evaluation, with every branch but "cond" run on some samples only, of those that it was to run on.

        On the others it repeats "cond", so that differences vanish there. `on`: bool (B,) on the host.
        """
        on = on if self.on is None else on & self.on
        return self if bool(on.all()) else replace(self, on=on)

    def asked(self, name: str) -> Tensor:
        """For which samples a branch has been asked already in this evaluation, bool (B,) on the host."""
        assert self.answers is not None
        return self.answers.asked(name)

    def same(self, name: str, other: str) -> bool:
        """Whether two branches say the same: of an equal network, under the very same condition object."""
        a, b = self.branches[name], self.branches[other]
        return a.network == b.network and a.condition is b.condition

    def each(self, name: str, value: float | Sequence[float]) -> float | Tensor:
        """A rule's number as it multiplies x: itself, or of a sequence with one number per picture those of this batch, (B, 1, ...).

        Args:
            name: of the number, for messages.
            value: the number or the sequence.

        Raises:
            WrongCount: for a sequence that has not one number per picture.
        """
        if not isinstance(value, Sequence):
            return value
        return self._own(name, value).view(-1, *[1] * (self.x.ndim - 1)).to(self.x, non_blocking=True)

    def where(self, name: str, value: float | Sequence[float], wanted: Callable[[float], bool]) -> Tensor | None:
        """Which samples have a number that is wanted, bool (B,) on the host; None: all. See `each`."""
        if not isinstance(value, Sequence):
            return None if wanted(value) else torch.zeros(len(self.x), dtype=torch.bool)
        on = torch.tensor([wanted(v) for v in self._own(name, value).tolist()], dtype=torch.bool)
        return None if bool(on.all()) else on

    def _own(self, name: str, value: Sequence[float]) -> Tensor:
        """The numbers of this batch's pictures, float64 (B,) on the host."""
        slots = torch.arange(len(self.x)) if self.slots is None else self.slots
        count = self.count if self.count is not None else int(slots.max()) + 1
        if len(value) != count:
            raise WrongCount(
                f"{name} has {len(value)} numbers for {count} picture(s); give one number, or one per picture (per seed, in their order)"
            )
        return torch.tensor(list(value), dtype=torch.float64)[slots]

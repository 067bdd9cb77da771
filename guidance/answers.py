"""What the branches have said at one (x, level): equal networks share a call, and nothing is asked twice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules.level import Level, has_batch
from ..schedules.prediction import Prediction
from .branch import Branch, Network
from .missing import MissingBranch
from .tree import cat, same_shape, take

__all__ = ["Answers"]


class _Known(NamedTuple):
    """A branch's answer, and for which samples it was asked: bool (B,) on the host, None for all. The others repeat "cond"."""

    prediction: Prediction
    on: Tensor | None


class Answers:
    """The answers of one evaluation.

    Args:
        branches: by name, "cond" among them.
        x, level: where they are asked.
        spent: int64 (B, branches) on the host, counted up.
    """

    def __init__(self, branches: Mapping[str, Branch], x: Tensor, level: Level, spent: Tensor) -> None:
        self.branches, self.x, self.level, self.spent = branches, x, level, spent
        self._known: dict[str, _Known] = {}

    def asked(self, name: str) -> Tensor:
        """For which samples a branch, or one that says the same, has been asked: bool (B,) on the host."""
        known = self._known.get(self._twin(name)) if name in self.branches else None
        if known is None:
            return torch.zeros(len(self.x), dtype=torch.bool)
        return torch.ones(len(self.x), dtype=torch.bool) if known.on is None else known.on

    def get(self, names: Sequence[str], on: Tensor | None) -> tuple[Prediction, ...]:
        """The predictions of branches; where `on` (bool (B,) on the host) is not set, all but "cond" repeat "cond".

        Raises:
            MissingBranch: for a name that is not a branch.
            ValueError: for branches of one network whose conditions differ in structure.
        """
        for name in names:
            if name not in self.branches:
                raise MissingBranch(name, list(self.branches))
        wanted = [self._twin(name) for name in names]
        todo: dict[str, Tensor | slice] = {}
        for name in dict.fromkeys(wanted if on is None else ["cond", *wanted]):
            index = self._lacking(name, None if name == "cond" else on)
            if index is not None:
                todo[name] = index
        networks: list[Network] = []
        for name in todo:
            if not any(self.branches[name].network == network for network in networks):
                networks.append(self.branches[name].network)
        for network in networks:
            self._run(network, {n: i for n, i in todo.items() if self.branches[n].network == network})
        return tuple(self._seen(name, on) for name in wanted)

    def _twin(self, name: str) -> str:
        """The first branch that says the same: of an equal network, under the very same condition object."""
        mine = self.branches[name]
        # "cond" first: it stands for the others where they are not asked
        ordered = ("cond", *(n for n in self.branches if n != "cond"))
        same = (n for n in ordered if (b := self.branches[n]).network == mine.network and b.condition is mine.condition)
        return next(same)

    def _lacking(self, name: str, on: Tensor | None) -> Tensor | slice | None:
        """The samples for which a branch must still be asked, or None."""
        known = self._known.get(name)
        if known is None:
            missing = on
        elif known.on is None:
            return None
        else:
            missing = ~known.on if on is None else on & ~known.on
        if missing is None or bool(missing.all()):
            return slice(None)
        return missing.nonzero().squeeze(1) if bool(missing.any()) else None

    def _seen(self, name: str, on: Tensor | None) -> Prediction:
        """What is known of a branch, as it looks to who asks for some samples."""
        if on is None or name == "cond":
            return self._known[name].prediction
        cond = self._known["cond"].prediction
        if name not in self._known:  # for no sample at all
            return cond
        prediction, has = self._known[name]
        if has is not None and torch.equal(has, on):
            return prediction
        index = on.nonzero().squeeze(1)
        return cond.put(index, prediction.rows(index)) if len(index) else cond

    def _run(self, network: Network, todo: Mapping[str, Tensor | slice]) -> None:
        """One call of a network for all its branches."""
        names, index = list(todo), list(todo.values())
        conditions = [take(self.branches[n].condition, i) for n, i in todo.items()]
        for name, condition in zip(names[1:], conditions[1:], strict=True):
            if not same_shape(conditions[0], condition):
                raise ValueError(
                    f"branches {names[0]!r} and {name!r} share a network but their conditions differ in structure; "
                    "give both the same keys, shapes and dtypes (the null condition included)"
                )
        said_here = False
        if len(names) == 1 and isinstance(index[0], slice):
            answers = [network(self.x, self.level, conditions[0])]
        else:
            parts = [take(self.x, i) for i in index]
            levels = [self.level.rows(i) for i in index]
            x, level = cat(*parts), _join(levels)
            joint = network(x, level, cat(*conditions))
            said_here = joint.raw and joint.x is x and joint.level is level
            ends = [0, *itertools.accumulate(len(part) for part in parts)]
            answers = [joint.rows(slice(a, b)) for a, b in itertools.pairwise(ends)]
        for name, i, answer in zip(names, index, answers, strict=True):
            column = self.spent[:, list(self.branches).index(name)]
            column.add_(1) if isinstance(i, slice) else column.index_add_(0, i, torch.ones_like(i))
            self._note(name, i, answer, said_here)

    def _note(self, name: str, index: Tensor | slice, answer: Prediction, said_here: bool) -> None:
        if isinstance(index, slice):
            if said_here:  # of this very x and level, so that the answers can be combined while raw
                answer = Prediction(self.x, self.level, answer.out, answer.row, answer.variance)
            self._known[name] = _Known(answer, None)
            return
        before = self._known.get(name)
        base = self._known["cond"].prediction if before is None else before.prediction
        on = torch.zeros(len(self.x), dtype=torch.bool) if before is None or before.on is None else before.on.clone()
        on[index] = True
        self._known[name] = _Known(base.put(index, answer), None if bool(on.all()) else on)


def _join(levels: list[Level]) -> Level:
    """The level of a joint batch: numbers, and tensors without a batch of their own, stay; others are joined."""
    if levels[0].is_scalar:
        return levels[0]
    return Level(
        *(cat(*v) if isinstance(v[0], Tensor) and has_batch(v[0]) else v[0] for v in zip(*levels, strict=True))
    )

"""Branches, and how a rule asks them: equal networks share one call, asked twice is paid once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ..schedules.level import Level, has_batch
from ..schedules.prediction import Prediction
from .tree import Tree, cat, same_shape, take

__all__ = ["Ask", "Branch", "Guidance", "Network"]

Network: TypeAlias = Callable[[Tensor, Level, Tree], Prediction]
"""(x, level, condition) -> what it believes; a Denoiser is one. Networks that are == share calls."""


class Branch(NamedTuple):
    """A network and what it is conditioned on.

    network: (x, level, condition) -> Prediction. condition: a tree of batch-first tensors, or None.
    """

    network: Network
    condition: Tree = None


@runtime_checkable
class Guidance(Protocol):
    """A guidance rule: asks the branches it needs and answers with one prediction."""

    def init(self, x: Tensor) -> Tree:
        """The memory of the rule before the first step, a tree of batch-first tensors; () when it has none."""
        ...

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        """One evaluation: the prediction, and the memory of the next step."""
        ...


@dataclass(frozen=True)
class Ask:
    """One evaluation at (x, level): `cond, ref = ask("cond", "ref")`.

    branches: by name; "cond" is the one that guidance steers towards. x: (B, ...). level: where it is asked. now: where the step
    began; decide by this one. spent: int64 (B, branches) on the host, evaluations so far. nxt: where the step leads, None where
    nobody says. step: number of the step, from 0. slots: int64 (B,) on the host, which of `count` pictures these are.
    """

    branches: Mapping[str, Branch]
    x: Tensor
    level: Level
    now: Level
    spent: Tensor
    known: dict[str, Prediction] = field(default_factory=dict)
    rows: Tensor | None = None
    nxt: Level | None = None
    step: int = 0
    slots: Tensor | None = None
    count: int | None = None

    def only(self, on: Tensor) -> Ask:
        """The same evaluation, with every branch but "cond" run on some samples only.

        On the others it repeats "cond", so that differences vanish there. `on`: bool (B,) on the host.
        """
        if bool(on.all()):
            return self
        known = {k: v for k, v in self.known.items() if k == "cond"}
        return replace(self, rows=on.nonzero().squeeze(1), known=known)

    def knows(self, name: str) -> bool:
        """Whether a branch has been asked already: asking again costs nothing."""
        return name in self.branches and self._twin(name) in self.known

    def each(self, name: str, value: float | Sequence[float]) -> float | Tensor:
        """A rule's number as it multiplies x: itself, or of a sequence with one number per picture those of this batch, (B, 1, ...).

        Args:
            name: of the number, for messages.
            value: the number or the sequence.

        Raises:
            ValueError: for a sequence that has not one number per picture.
        """
        if not isinstance(value, Sequence):
            return value
        return self._own(name, value).view(-1, *[1] * (self.x.ndim - 1)).to(self.x)

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
            raise ValueError(
                f"{name} has {len(value)} numbers for {count} picture(s); give one number, or one per picture (per seed, in their order)"
            )
        return torch.tensor(list(value), dtype=torch.float64)[slots]

    def __call__(self, *names: str) -> tuple[Prediction, ...]:
        """The predictions of the named branches.

        Raises:
            ValueError: for a name that is not a branch, and for branches of one network whose conditions differ in structure.
        """
        for name in names:
            if name not in self.branches:
                raise ValueError(_missing(name, list(self.branches)))
        if self.rows is not None and len(self.rows) == 0:  # nobody wants another branch: all repeat "cond"
            names = tuple("cond" for _ in names)
        wanted = [self._twin(name) for name in names]
        first = ["cond"] if self.rows is not None else []  # it fills the samples that the others skip
        todo = [n for n in dict.fromkeys(first + wanted) if n not in self.known]
        networks: list[Network] = []
        for name in todo:
            if not any(self.branches[name].network == network for network in networks):
                networks.append(self.branches[name].network)
        for network in networks:
            self._run(network, [n for n in todo if self.branches[n].network == network])
        return tuple(self.known[n] for n in wanted)

    def _twin(self, name: str) -> str:
        """The first branch that says the same: of an equal network, under the very same condition object."""
        mine = self.branches[name]
        ordered = (
            "cond",
            *(n for n in self.branches if n != "cond"),
        )  # "cond" first: it stands for the others in `only`
        same = (n for n in ordered if (b := self.branches[n]).network == mine.network and b.condition is mine.condition)
        return next(same)

    def _run(self, network: Network, names: list[str]) -> None:
        """One call of a network for all its branches."""
        whole = slice(None)
        index = [whole if n == "cond" or self.rows is None else self.rows for n in names]
        conditions = [take(self.branches[n].condition, i) for n, i in zip(names, index, strict=True)]
        for name, condition in zip(names[1:], conditions[1:], strict=True):
            if not same_shape(conditions[0], condition):
                raise ValueError(
                    f"branches {names[0]!r} and {name!r} share a network but their conditions differ in structure; "
                    "give both the same keys, shapes and dtypes (the null condition included)"
                )
        said_here = False
        if len(names) == 1 and index[0] is whole:
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
            self.spent[i, list(self.branches).index(name)] += 1
            if isinstance(i, Tensor):
                answer = self.known["cond"].put(i, answer)
            elif said_here:  # of this very x and level, so that the answers can be combined while raw
                answer = Prediction(self.x, self.level, answer.out, answer.row, answer.variance)
            self.known[name] = answer


def _missing(name: str, there: list[str]) -> str:
    """What to say of a branch that is not there."""
    if name == "ref" and "ref" not in there:
        return (
            "guidance steers away from 'ref', the model without a condition, and this model has none: it was trained without classes, or "
            "its labels were never dropped (label_dropout 0); use guidance Plain, or steer away from another branch (against: negative)"
        )
    hints = {
        "weak": "a weaker network is given as weak=load(...) to sample, or --weak RUN",
        "negative": 'a negative prompt is given as also={"negative": labels} to sample, or --also.negative 3',
    }
    hint = hints.get(name, f'another condition is given as also={{"{name}": labels}} to sample, or --also.{name} 3')
    return f"guidance asks for branch {name!r}; there are {', '.join(map(repr, there))}. Fix: {hint}"


def _join(levels: list[Level]) -> Level:
    """The level of a joint batch: numbers, and tensors without a batch of their own, stay; others are joined."""
    if levels[0].is_scalar:
        return levels[0]
    return Level(
        *(cat(*v) if isinstance(v[0], Tensor) and has_batch(v[0]) else v[0] for v in zip(*levels, strict=True))
    )

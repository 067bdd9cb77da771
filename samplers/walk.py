"""The table's steps: where the network is to be asked, and what its answers make of x.

`trajectory` asks a function, a scheduler of diffusers waits for its pipeline to answer: the same steps, the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..schedules.level import Level
from ..schedules.noise import Noise
from ..schedules.prediction import Prediction
from .buffers import Buffers
from .state import Sampler
from .table import Program, trace
from .turn import Turn

__all__ = ["Table", "Walk", "check_like", "draw", "tabulate"]


@dataclass
class Table:
    """A sampler's numbers along levels, and the operations made of them so far; made once, used by every batch.

    Args:
        sampler, levels: what it was made of.
        programs: one per step, or None for a sampler that runs as it is written.
        turns: where each step begins, by its place and the scales of its memory.
    """

    sampler: Sampler
    levels: Sequence[Level]
    programs: list[Program] | None
    turns: dict[tuple[int, tuple[float, ...]], Turn] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """All but the turns, which a copy works out again: each knows the next, too deep to be followed."""
        return self.__dict__ | {"turns": {}}

    @property
    def asked(self) -> list[Level]:
        """The levels at which the network will be asked: exact for a traced sampler, else all levels but the last."""
        if self.programs is None:
            return list(self.levels[:-1])
        return [level for program in self.programs for _, level in program.asks]

    def turn(self, i: int, scales: tuple[float, ...]) -> Turn:
        """Where step i begins, with memory of these scales."""
        assert self.programs is not None
        turn = self.turns.get((i, scales))
        if turn is None:
            turn = self.turns[i, scales] = Turn(self.programs[i], (), scales, self.sampler.draws)
        return turn


def tabulate(sampler: Sampler, levels: Sequence[Level]) -> Table:
    """The table of a sampler along levels (at least two).

    Raises:
        ValueError: for fewer than two levels.
    """
    if len(levels) < 2:
        raise ValueError(
            f"{len(levels)} levels; a trajectory needs at least two, from where it starts to where it ends"
        )
    return Table(sampler, levels, trace(sampler, levels))


def check_like(name: str, value: Tensor, x: Tensor) -> None:
    """Refuse a tensor that does not have x's shape: it would broadcast in silence.

    Raises:
        ValueError: naming both shapes.
    """
    if value.shape != x.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, x has {tuple(x.shape)}; allowed: the same")


def _like(value: Tensor, x: Tensor) -> Tensor:
    """A tensor in x's dtype; `to` is an operation even where it changes nothing."""
    return value if value.dtype == x.dtype else value.to(x.dtype)


def draw(sampler: Sampler, noise: Noise | None, i: int, x: Tensor) -> tuple[Tensor, ...]:
    """The Gaussians of step i."""
    if noise is None:
        return ()
    z = tuple(noise(i, d) for d in range(sampler.draws))
    for tensor in z:
        check_like(f"the noise of step {i}", tensor, x)
    return z


class Walk:
    """A batch on its way along a table that has numbers: where to ask, what the answers make of it.

    Of a step: `begin`, then while `level` says that the network is to be asked, `at` and `answer`; then `end`.

    Args:
        table: with programs.
        x: (B, ...), where it begins; never written to.
        noise: see `trajectory`.
        keep: whether `shown` keeps the prediction of a step; without, the next x may be written over what the network was shown and what it
            answered, once nobody else knows them.

    x: where it stands between steps. level: where the network is to be asked; None: the step can end. shown: what the step shows.
    """

    __slots__ = ("_asked", "_buffers", "_draws", "_i", "_keep", "_memory", "_noise", "_own", "_remembered", "_shape", "_table",
                 "_tensors", "_turn", "dtype", "level", "shown", "x")  # fmt: skip

    def __init__(self, table: Table, x: Tensor, noise: Noise | None, keep: bool = True) -> None:
        assert table.programs is not None
        self._table, self._noise, self._keep, self._buffers = table, noise, keep, Buffers(x)
        self.x: Tensor | None = x
        self.dtype, self._shape, self._draws = x.dtype, x.shape, table.sampler.draws
        self._tensors: list[Tensor] = []
        self._memory: list[Tensor] = []
        # as bits: which places of the list were made here; whether x was (bit 0), and each memory (bits 1, 2, ...)
        self._own, self._remembered = 0, 0
        self._asked: list[Tensor] = []
        self._turn: Turn | None = None
        self._i = -1
        self.level: Level | None = None
        self.shown: Prediction | None = None

    def begin(self) -> None:
        """Begin the next step."""
        x, last = self.x, self._turn
        assert x is not None
        self._i += 1
        self._tensors = [x, *self._memory]
        self._own, self._memory, self.x, self.shown = self._remembered, [], None, None
        if self._draws:
            self._tensors += [_like(z, x) for z in draw(self._table.sampler, self._noise, self._i, x)]
        if last is None:
            turn = self._table.turn(0, ())
        elif last.then is None:
            assert last.plan is not None
            turn = last.then = self._table.turn(self._i, last.plan.scales)
        else:
            turn = last.then
        self._turn, self.level = turn, turn.level

    def at(self) -> Tensor:
        """Where the network is to be asked."""
        turn = self._turn
        assert turn is not None
        recipe = turn.at
        assert recipe is not None
        if recipe.kind == "alias":
            return self._tensors[recipe.first]
        self._asked.append(self._buffers.compute(recipe, self._tensors))
        return self._asked[-1]

    def answer(self, p: Prediction, at: Tensor) -> None:
        """Take the network's answer at (at, level).

        Raises:
            ValueError: for what is no prediction, and for one of another shape.
        """
        turn = self._turn
        assert turn is not None
        if not isinstance(p, Prediction):
            raise ValueError(
                f"denoise returned a {type(p).__name__}; allowed: a Prediction, such as Prediction.pair(x0, eps)"
            )
        if self._keep and turn.shows:
            self.shown = p
        out, row = p.out, p.row
        if row is not None and out is not None and p.x is at and p.level is turn.level and out.dtype == self.dtype:
            if out.shape != self._shape:
                check_like("the network's output", out, self._tensors[0])
            self._tensors.append(out)
        else:
            check_like("the predicted x0", p.x0, at)
            check_like("the predicted eps", p.eps, at)
            self._tensors += [_like(p.x0, self._tensors[0]), _like(p.eps, self._tensors[0])]
            row = None
        self._turn = turn = turn.answered(row)
        self.level = turn.level

    def end(self) -> Tensor:
        """End the step: x after it. What the network answered may be written over where the walk alone knows it."""
        assert self._turn is not None
        plan, tensors, own, buffers = self._turn.plan, self._tensors, self._own, self._buffers
        assert plan is not None
        for recipe in plan.computed:
            own |= 1 << len(tensors)
            tensors.append(buffers.compute(recipe, tensors))
        self.x = x = buffers.compute(plan.x, tensors)
        remembered = int(plan.x.kind != "alias" or own >> plan.x.first & 1)
        memory = self._memory
        for n, k in enumerate(plan.memory):
            memory.append(tensors[k])
            own_too = own >> k & 1
            remembered |= own_too << n + 1
            own ^= own_too << k
        gone = (
            self._asked
        )  # all that was made here, but for what is needed: where something was written over a tensor, it is both
        while own:
            k = own.bit_length() - 1
            own ^= 1 << k
            if tensors[k] is not x and not any(tensors[k] is kept for kept in memory):
                gone.append(tensors[k])
        self._tensors, self._asked, self._remembered = [], [], remembered
        buffers.spare(gone)
        return x

    def moved(self, x: Tensor) -> None:
        """Go on from another x than `end` returned."""
        self.x = x
        self._remembered &= ~1

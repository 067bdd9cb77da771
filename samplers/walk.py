"""The table's loop, turned inside out: it says where the network is to be asked, and is sent the answers.

So `trajectory` can ask a function, and a scheduler of diffusers can wait for its pipeline to answer: one loop, the same bits.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..schedules.level import Level
from ..schedules.noise import Noise
from ..schedules.prediction import Prediction
from .buffers import Buffers
from .state import Sampler
from .table import Program, trace
from .turn import Turn

__all__ = ["Made", "Request", "Table", "check_like", "draw", "tabulate", "walk"]


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

    @property
    def asked(self) -> list[Level]:
        """The levels at which the network will be asked: exact for a traced sampler, else all levels but the last."""
        if self.programs is None:
            return list(self.levels[:-1])
        return [level for program in self.programs for _, level in program.asks]


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


class Request(NamedTuple):
    """The network is to be asked: what does it believe at (x, level)? first: whether a step begins with it."""

    x: Tensor
    level: Level
    first: bool


class Made(NamedTuple):
    """A step has been made: x is the state after it, prediction what it shows."""

    x: Tensor
    prediction: Prediction


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


def walk(table: Table, x: Tensor, noise: Noise | None) -> Generator[Request | Made, Any, None]:
    """Apply the numbers of a table that has some: yields a Request, to be answered by `send`, or a step that was Made.

    After a step that was Made it goes on from there, or from an x that is sent (a pipeline that paints over what must stay).
    """
    programs, sampler, turns, draws = table.programs, table.sampler, table.turns, table.sampler.draws
    assert programs is not None
    memory: tuple[Tensor, ...] = ()
    scales: tuple[float, ...] = ()
    buffers = Buffers()
    for i, program in enumerate(programs):
        tensors = [x, *memory]
        if draws:
            tensors += [_like(z, x) for z in draw(sampler, noise, i, x)]
        turn = turns.get((i, scales))
        if turn is None:
            turn = turns[i, scales] = Turn(program, (), scales, draws)
        shown: Prediction | None = None
        p: Prediction | None = None
        at, k = x, 0
        while turn.plan is None:
            assert turn.at is not None
            assert turn.level is not None
            at = buffers.compute(turn.at, tensors)
            p = yield Request(at, turn.level, k == 0)
            if not isinstance(p, Prediction):
                raise ValueError(
                    f"denoise returned a {type(p).__name__}; allowed: a Prediction, such as Prediction.pair(x0, eps)"
                )
            shown = p if k == program.shown else shown
            if (
                p.row is not None
                and p.out is not None
                and p.x is at
                and p.level is turn.level
                and p.out.dtype == x.dtype
            ):
                check_like("the network's output", p.out, x)
                turn = turn.answered(p.row)
                tensors.append(p.out)
            else:
                check_like("the predicted x0", p.x0, x)
                check_like("the predicted eps", p.eps, x)
                turn = turn.answered(None)
                tensors += [_like(p.x0, x), _like(p.eps, x)]
            k += 1
        plan = turn.plan
        assert shown is not None
        for recipe in plan.computed:
            tensors.append(buffers.compute(recipe, tensors))
        x = buffers.compute(plan.x, tensors)
        memory, scales = tuple([tensors[j] for j in plan.memory]), plan.scales
        made = Made(x, shown)
        del tensors, at, p, shown  # what the loop alone still knows of may be written to in the next step
        moved = yield made
        if moved is not None:
            x = moved
        del made, moved

"""The loop: walk a batch along levels, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.noise import Noise
from ..schedules.prediction import Prediction
from ..schedules.rows import Row
from .plan import Plan, Recipe, bind, compute, stage
from .state import Denoise, Sampler, State
from .table import Program, trace

__all__ = ["Step", "Table", "tabulate", "trajectory"]


@dataclass
class Table:
    """A sampler's numbers along levels, and the operations made of them so far; made once, used by every batch.

    Args:
        sampler, levels: what it was made of.
        programs: one per step, or None for a sampler that runs as it is written.
    """

    sampler: Sampler
    levels: Sequence[Level]
    programs: list[Program] | None
    plans: dict[object, Plan | Recipe] = field(default_factory=dict)

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


class Step:
    """One step that has been made. Read it before asking for the next.

    index: 0, 1, ...; last: whether it was the last. now, level: where it began and where it led. denoise: the model.
    """

    __slots__ = ("_handed", "_prediction", "_x", "denoise", "index", "last", "level", "noise", "now")

    def __init__(
        self, index: int, last: bool, now: Level, level: Level, x: Tensor, prediction: Prediction,
        denoise: Denoise, noise: Noise | None,
    ) -> None:  # fmt: skip
        self.index, self.last, self.now, self.level = index, last, now, level
        self.denoise, self.noise = denoise, noise
        self._x, self._prediction, self._handed = x, prediction, False

    @property
    def x(self) -> Tensor:
        """The state after the step, (B, ...). Yours to keep: the loop writes elsewhere from now on."""
        self._handed = True
        return self._x

    @property
    def prediction(self) -> Prediction:
        """What the model believed where the step began. Yours to keep."""
        self._handed = True
        return self._prediction


def trajectory(
    sampler: Sampler, denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise | None = None, *,
    table: Table | None = None, as_written: bool = False,
) -> Iterator[Step]:  # fmt: skip
    """Walk x along levels; a generator of steps.

    A linear sampler runs as a table of numbers, in buffers of its own, unless gradients are recorded (torch.is_grad_enabled());
    any other runs as it is written. Where `denoise` has `begin(level)` it is told when a step begins (guidance keeps one vector
    field per step), and where it has `check(levels)` it may refuse levels before the first evaluation.

    Args:
        sampler: the method.
        denoise: the model, (x, level) -> Prediction.
        levels: from where x stands to where it goes, at least two; downwards to sample, upwards to invert.
        x: (B, ...), at levels[0]. Never written to.
        noise: source of Gaussians, (step, draw) -> tensor like x; needed when sampler.draws > 0.
        table: of `tabulate(sampler, levels)`, when several batches share it.
        as_written: run the step as it is written, the reference of the table.

    Raises:
        ValueError: without noise for a sampler that draws, for fewer than two levels, and what `denoise.check` refuses.
    """
    table = table or tabulate(sampler, levels)
    if sampler.draws and noise is None:
        raise ValueError(
            f"{sampler} draws {sampler.draws} noise tensor(s) per step; give noise=, a source like `addressed(seeds)`"
        )
    check = getattr(denoise, "check", None)
    if check is not None:
        check(table.asked)
    # checked here, at the call, not at the first next()
    if table.programs is None or as_written or torch.is_grad_enabled():
        return _as_written(sampler, denoise, [level.like(x) for level in levels], x, noise)
    return _by_table(table, table.programs, denoise, x, noise)


def _draw(sampler: Sampler, noise: Noise | None, i: int) -> tuple[Tensor, ...]:
    return tuple(noise(i, d) for d in range(sampler.draws)) if noise is not None else ()


def _as_written(
    sampler: Sampler, denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise | None
) -> Iterator[Step]:
    state, begin, last = State(x), getattr(denoise, "begin", None), len(levels) - 2
    for i in range(last + 1):
        if begin is not None:
            begin(levels[i])
        state, p = sampler.step(state, denoise, levels[: i + 2], _draw(sampler, noise, i))
        yield Step(i, i == last, levels[i], levels[i + 1], state.x, p, denoise, noise)


def _by_table(
    table: Table, programs: Sequence[Program], denoise: Denoise, x: Tensor, noise: Noise | None
) -> Iterator[Step]:
    """Apply the numbers. Only buffers that this loop made, that nothing refers to any more, are written to."""
    begin, sampler, plans, last = getattr(denoise, "begin", None), table.sampler, table.plans, len(programs) - 1
    memory: tuple[Tensor, ...] = ()
    scales: tuple[float, ...] = ()
    made: dict[int, Tensor] = {}
    for i, program in enumerate(programs):
        level = program.asks[0][1]
        if begin is not None:
            begin(level)
        live = {id(x), *map(id, memory)}
        spare = [buffer for key, buffer in made.items() if key not in live]
        tensors = [x, *memory, *_draw(sampler, noise, i)]
        rows: tuple[Row | None, ...] = ()
        answers: list[Prediction] = []
        at = x
        for k, (_, level) in enumerate(program.asks):
            if k:
                key = i, rows, scales
                recipe = plans.get(key)
                if recipe is None:
                    recipe = plans[key] = stage(program, rows, scales, sampler.draws)
                assert isinstance(recipe, Recipe)
                at = compute(recipe, tensors, spare.pop() if spare and recipe.kind != "alias" else None)
            p = denoise(at, level)
            answers.append(p)
            if p.row is not None and p.x is at and p.out is not None and p.out.dtype == x.dtype:
                rows = *rows, p.row
                tensors.append(p.out)
            else:
                rows = *rows, None
                tensors += [p.x0, p.eps]
        key = i, rows, scales, "end"
        plan = plans.get(key)
        if plan is None:
            plan = plans[key] = bind(program, rows, scales, sampler.draws)
        assert isinstance(plan, Plan)
        first = len(tensors)
        for recipe in (*plan.memory, plan.x):
            alias = recipe.kind == "alias"
            y = compute(recipe, tensors, spare.pop() if spare and not alias else None)
            if not alias:
                made[id(y)] = y
            tensors.append(y)
        before, x, memory, scales = x, tensors[-1], tuple(tensors[first:-1]), plan.scales
        step = Step(i, i == last, program.asks[0][1], table.levels[i + 1], x, answers[program.shown], denoise, noise)
        yield step
        if step._handed:  # somebody may hold x, or a prediction that is solved from the x before when it is read
            for tensor in (before, x, *(p.x for p in answers), *memory):
                made.pop(id(tensor), None)

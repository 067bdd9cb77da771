"""The loop: walk a batch along levels, one step at a time."""

from __future__ import annotations

import sys
import weakref
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


@dataclass(frozen=True)
class Step:
    """One step that has been made; yours to keep.

    index: 0, 1, ...; last: whether it was the last. now, level: where it began and where it led. x: the state after it, (B, ...);
    the loop reads it in the next step, so copy it before writing to it. prediction: what the model believed where it began.
    denoise, noise: the model and the source of Gaussians, for who looks again.
    """

    index: int
    last: bool
    now: Level
    level: Level
    x: Tensor
    prediction: Prediction
    denoise: Denoise
    noise: Noise | None


def trajectory(
    sampler: Sampler, denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise | None = None, *,
    table: Table | None = None, as_written: bool = False,
) -> Iterator[Step]:  # fmt: skip
    """Walk x along levels; a generator of steps.

    A linear sampler runs as a table of numbers, in buffers of its own, unless gradients are recorded (torch.is_grad_enabled());
    any other runs as it is written. A denoiser may have more to be told: `check(levels)` may refuse levels before the first
    evaluation, `start()` hears that a trajectory begins, `begin(level)` that a step does (guidance keeps one vector field per step).

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
    if table.sampler != sampler or list(table.levels) != list(levels):
        raise ValueError(
            f"table is that of {table.sampler} along {len(table.levels)} levels; make one by tabulate(sampler, levels)"
        )
    if sampler.draws and noise is None:
        raise ValueError(
            f"{sampler} draws {sampler.draws} noise tensor(s) per step; give noise=, a source like `addressed(seeds)`"
        )
    check = getattr(denoise, "check", None)
    if check is not None:
        check(table.asked)
    start = getattr(denoise, "start", None)
    if start is not None:
        start()
    # all of this at the call, not at the first next()
    if table.programs is None or as_written or torch.is_grad_enabled():
        return _as_written(sampler, denoise, [level.like(x) for level in levels], x, noise)
    return _by_table(table, table.programs, denoise, x, noise)


def _draw(sampler: Sampler, noise: Noise | None, i: int) -> tuple[Tensor, ...]:
    return tuple(noise(i, d) for d in range(sampler.draws)) if noise is not None else ()


def _checked(sampler: Sampler, result: object) -> tuple[State, Prediction]:
    """What a step returned, refused where it is not what a step returns."""
    if (
        isinstance(result, tuple)
        and len(result) == 2
        and isinstance(result[0], State)
        and isinstance(result[1], Prediction)
    ):
        return result
    shown = ", ".join(type(v).__name__ for v in result) if isinstance(result, tuple) else type(result).__name__
    raise ValueError(f"{type(sampler).__name__}.step returned ({shown}); it must return (State, Prediction)")


def _as_written(
    sampler: Sampler, denoise: Denoise, levels: Sequence[Level], x: Tensor, noise: Noise | None
) -> Iterator[Step]:
    state, begin, last = State(x), getattr(denoise, "begin", None), len(levels) - 2
    for i in range(last + 1):
        if begin is not None:
            begin(levels[i])
        state, p = _checked(sampler, sampler.step(state, denoise, levels[: i + 2], _draw(sampler, noise, i)))
        yield Step(i, i == last, levels[i], levels[i + 1], state.x, p, denoise, noise)


def _counts(held: Sequence[Tensor], i: int) -> tuple[int, int, int]:
    """How many know a tensor of a list: references to it, references to its storage, uses of the storage (by views)."""
    storage = held[i].untyped_storage()
    return sys.getrefcount(held[i]), sys.getrefcount(storage), torch._C._storage_Use_Count(storage._cdata)


# the counts of a tensor that only its list knows, as this Python and PyTorch count
_ALONE = _counts([torch.empty(1)], 0)


def _free(held: Sequence[Tensor], i: int) -> bool:
    """Whether nobody but the list knows a tensor or its memory.

    A weak reference knows it, too. Memory shared with another process, or made in inference mode and met outside it, is left alone.
    """
    if _counts(held, i) != _ALONE or weakref.getweakrefcount(held[i]):
        return False
    shared = held[i].device.type == "cpu" and held[i].untyped_storage().is_shared()
    return not shared and (not held[i].is_inference() or torch.is_inference_mode_enabled())


class _Buffers:
    """Tensors that the loop made. One is written to again only when nobody refers to it any more: no step that was kept, no
    memory of a rule, no cache of a network."""

    def __init__(self) -> None:
        self._made: list[Tensor] = []
        self._spare: list[Tensor] = []

    def collect(self) -> None:
        """Find out which are free; at the start of a step."""
        self._spare.clear()
        if torch.is_grad_enabled():  # the generator may be resumed in another mode than it began in
            return
        spare = [i for i in range(len(self._made)) if _free(self._made, i)]
        self._spare = [self._made[i] for i in spare]

    def compute(self, recipe: Recipe, tensors: Sequence[Tensor]) -> Tensor:
        """Carry out a recipe, into a free buffer when there is one."""
        if recipe.kind == "alias":
            return tensors[recipe.first]
        if self._spare:
            return compute(recipe, tensors, self._spare.pop())
        self._made.append(compute(recipe, tensors, None))
        return self._made[-1]


def _by_table(
    table: Table, programs: Sequence[Program], denoise: Denoise, x: Tensor, noise: Noise | None
) -> Iterator[Step]:
    """Apply the numbers."""
    begin, sampler, plans, last = getattr(denoise, "begin", None), table.sampler, table.plans, len(programs) - 1
    memory: tuple[Tensor, ...] = ()
    scales: tuple[float, ...] = ()
    buffers = _Buffers()
    for i, program in enumerate(programs):
        if begin is not None:
            begin(program.asks[0][1])
        buffers.collect()
        tensors = [x, *memory, *(z.to(x.dtype) for z in _draw(sampler, noise, i))]
        rows: tuple[Row | None, ...] = ()
        shown: Prediction | None = None
        p: Prediction | None = None
        at = x
        for k, (_, level) in enumerate(program.asks):
            if k:
                recipe = plans.get((i, rows, scales))
                if recipe is None:
                    recipe = plans[i, rows, scales] = stage(program, rows, scales, sampler.draws)
                assert isinstance(recipe, Recipe)
                at = buffers.compute(recipe, tensors)
            p = denoise(at, level)
            shown = p if k == program.shown else shown
            if p.row is not None and p.out is not None and p.x is at and p.level is level and p.out.dtype == x.dtype:
                rows = *rows, p.row
                tensors.append(p.out)
            else:
                rows = *rows, None
                tensors += [p.x0.to(x.dtype), p.eps.to(x.dtype)]
        plan = plans.get((i, rows, scales, "end"))
        if plan is None:
            plan = plans[i, rows, scales, "end"] = bind(program, rows, scales, sampler.draws)
        assert isinstance(plan, Plan)
        assert shown is not None
        for recipe in (*plan.memory, plan.x):
            tensors.append(buffers.compute(recipe, tensors))
        memory = tuple(tensors[len(tensors) - 1 - len(plan.memory) : -1])
        x, scales = tensors[-1], plan.scales
        step = Step(i, i == last, program.asks[0][1], table.levels[i + 1], x, shown, denoise, noise)
        del tensors, at, p, shown  # what the loop alone still knows of may be written to in the next step
        yield step
        del step

"""The loop: walk a batch along levels, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.noise import Noise
from ..schedules.prediction import Prediction
from .jump import Watched, check_jump, jump
from .state import Denoise, Sampler, State
from .table import recent
from .walk import Table, Walk, check_like, draw, tabulate

__all__ = ["Step", "Table", "checked", "tabulate", "trajectory"]


@dataclass(slots=True, eq=False)  # not frozen: that would be the costliest line of a step
class Step:
    """One step that has been made; yours to keep, and cheaper to let go of (`del step`) before the next is asked for.

    index: 0, 1, ...; last: whether it was the last. now, level: where it began and where it led. x: the state after it, (B, ...);
    the loop reads it in the next step, so copy it before writing to it. prediction: what the (guided) model believed where it began.
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
    table: Table | None = None, as_written: bool = False, predictions: bool = True,
) -> Iterator[Step]:  # fmt: skip
    """Walk x along levels; a generator of steps.

    A linear sampler runs as a table of numbers, in buffers of its own, unless gradients are recorded (torch.is_grad_enabled());
    any other runs as it is written. A denoiser may have more to be told: `check(levels)` may refuse levels before the first
    evaluation, `start()` hears that a trajectory begins, `begin(now, nxt)` that a step does (guidance keeps one vector field per step).

    Args:
        sampler: the method.
        denoise: the model, (x, level) -> Prediction.
        levels: from where x stands to where it goes, at least two; downwards to sample, upwards to invert.
        x: (B, ...), at levels[0], of a floating dtype. Never written to.
        noise: source of Gaussians, (step, draw) -> tensor like x; needed when sampler.draws > 0.
        table: of `tabulate(sampler, levels)`, when several batches share it.
        as_written: run the step as it is written, the reference of the table.
        predictions: whether a step keeps what the model believed. Without, a step is x alone, and memory that a table's loop would have to
            keep for it is written over at once: a network's answer, and x itself where nobody holds it. The same bits.

    Raises:
        ValueError: without noise for a sampler that draws, for what is no sampler and what are no levels or fewer than two, for an x of
            whole numbers, and what `denoise.check` refuses; while it runs, for an answer or noise of another shape than x.
    """
    if isinstance(sampler, type) or not isinstance(sampler, Sampler):
        raise ValueError(f"sampler is {sampler!r}; allowed: an object with draws and step, such as DDIM()")
    if not all(isinstance(level, Level) for level in levels):
        raise ValueError("levels hold something else than levels; a grid makes them: trailing(schedule, steps)")
    table = table or tabulate(sampler, levels)
    if table.sampler != sampler or list(table.levels) != list(levels):
        raise ValueError(
            f"table is that of {table.sampler} along {len(table.levels)} levels; make one by tabulate(sampler, levels)"
        )
    if not x.is_floating_point():
        raise ValueError(f"x is {x.dtype}; allowed: a floating dtype, such as torch.float32")
    if sampler.draws and noise is None:
        raise ValueError(
            f"{sampler} draws {sampler.draws} noise tensor(s) per step; give noise=, a function (step, draw) -> tensor like x, such as "
            "Brownian(seeds, 0, levels, x.shape[1:])"
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
    return _by_table(table, denoise, x, noise, predictions)


def checked(sampler: Sampler, result: object) -> tuple[State, Prediction]:
    """What a step returned, refused where it is not what a step returns.

    Raises:
        ValueError: naming the sampler and what it returned.
    """
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
    watched = Watched(denoise)
    for i in range(last + 1):
        if begin is not None:
            begin(levels[i], levels[i + 1])
        watched.last = None
        state, p = checked(sampler, sampler.step(state, watched, recent(levels, i), draw(sampler, noise, i, x)))
        moved = None if watched.last is None else jump(watched.last, levels[i], levels[i + 1])
        if moved is not None:
            state = state._replace(x=state.x + moved)
        if state.x.dtype != x.dtype:  # of a network that answers in another
            state = state._replace(x=state.x.to(x.dtype))
        check_like(f"x after a step of {type(sampler).__name__} (a network's answer of another shape?)", state.x, x)
        yield Step(i, i == last, levels[i], levels[i + 1], state.x, p.toward or p, denoise, noise)


def _by_table(table: Table, denoise: Denoise, x: Tensor, noise: Noise | None, predictions: bool) -> Iterator[Step]:
    begin, levels, last, dtype = getattr(denoise, "begin", None), table.levels, len(table.levels) - 2, x.dtype
    walk, moves = Walk(table, x, noise, predictions), False
    del x
    for i in range(last + 1):
        walk.begin()
        if begin is not None:
            begin(levels[i], levels[i + 1])
        by: Tensor | None = None
        while (level := walk.level) is not None:
            at = walk.at()
            p = denoise(at, level)
            by = None
            if isinstance(p, Prediction) and p.toward is not None:
                if not moves:
                    check_jump(table, i)
                    moves = True
                by = jump(p, levels[i], levels[i + 1])
            walk.answer(p, at)
            del p, at  # what the walk alone knows of may be written to
        if by is not None:
            moved = walk.end() + by
            walk.moved(moved if moved.dtype == dtype else moved.to(dtype))  # of a network that answers in another
            del moved
        else:
            walk.end()
        shown = walk.shown or _UNKNOWN
        assert walk.x is not None
        yield Step(i, i == last, levels[i], levels[i + 1], walk.x, shown.toward or shown, denoise, noise)
        del shown


class _Unknown(Prediction):
    """What a step shows that keeps no prediction."""

    def __init__(self) -> None:
        super().__init__(None, None, None, None)

    def _solved(self, which: int) -> Tensor:
        raise ValueError("this step keeps no prediction; make the trajectory with predictions=True")


_UNKNOWN = _Unknown()

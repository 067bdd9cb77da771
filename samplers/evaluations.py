"""A trajectory in which somebody else asks the network, one evaluation at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import Row
from ..schedules.schedule import Schedule
from .path import on_path
from .replay import asks, replay
from .requests import Made, Request, walk
from .state import Sampler
from .trajectory import Step
from .walk import Table, tabulate

__all__ = ["Evaluations"]


class Evaluations:
    """The evaluations of a sampler along levels, and where in them it is.

    Args:
        sampler, schedule: the method, and the path it is told of.
        row: what the network's output means.
        levels: from noise to data.

    Raises:
        ValueError: for a sampler whose evaluations depend on the data.
        PairingError: for a level at which the row says nothing.

    asked: the level of each evaluation. starts: at which evaluation each step begins. levels: as given. begun: the step that the walk
    under way began with.
    """

    def __init__(self, sampler: Sampler, schedule: Schedule, row: Row, levels: Sequence[Level]) -> None:
        self.levels, self.row = levels, row
        self._sampler = on_path(sampler, schedule)
        self._table = tabulate(self._sampler, levels)
        self._steps = asks(self._table, row)
        self.asked = [level for step in self._steps for level, _ in step]
        self.starts = [0, *itertools.accumulate(len(step) for step in self._steps)][:-1]
        self._loop: Generator[Request | Made, Any, None] | None = None
        self._made, self.begun = 0, 0  # steps
        self._shown: Made | None = None  # the step that the last answer ended, until the next answer
        self._request: Request | None = None  # None: the next step begins with where the last one led, as it is then
        self._x = self._given = torch.empty(0)  # where it is, and what was returned for that
        self._version: int | None = None  # of what was returned, which tells whether it was written to
        self._next, self._lost = 0, ""
        self._draw: Callable[[Tensor], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """All but the walk itself, which is Python's running code: a copy made within one can't go on."""
        state = self.__dict__.copy()
        if self._loop is not None:
            state |= {"_loop": None, "_request": None, "_lost": "is a copy that was made within a walk"}
        return state | {"_draw": None, "_shown": None}

    def begins(self, index: int) -> tuple[int, Table, dict[str, float]]:
        """The step that begins with an evaluation, the table of the walk from there, and the form of the x that is asked first.

        A step may begin by adding noise (Churn). The x that a pipeline begins with has that noise already: it was made for the level at
        which the network is asked.

        Raises:
            ValueError: for an index at which no walk can begin.
        """
        if index not in self.starts:
            raise ValueError(
                f"begin_index is {index!r}; allowed: where a step begins, {_few(self.starts)} ({self._sampler} asks the network at "
                f"{len(self.asked)} levels in {len(self.starts)} steps)"
            )
        step = self.starts.index(index)
        if step == 0:
            table, steps = self._table, self._steps
        else:
            table = tabulate(self._sampler, self.levels[step:])
            steps = asks(table, self.row)
        if [level for s in steps for level, _ in s] != self.asked[index:]:
            raise ValueError(
                f"begin_index is {index}: {self._sampler} would ask at other levels when it begins there (its first steps are special), "
                "and the pipeline has its timesteps already; begin at 0 (strength 1), or take another sampler"
            )
        if steps[0][0][1]:
            return step, table, {"x": 1.0}
        form = table.programs[0].asks[0][0].terms if table.programs else {}
        if not form.get("x"):
            raise ValueError(
                f"begin_index is {index}: {self._sampler} would first move x in a way that is not linear, and a pipeline asks its network "
                "at the x that it has; take another sampler"
            )
        return step, table, form

    def _start(self, index: int, given: Tensor) -> None:
        x = given
        made, table, form = self.begins(index)
        if form != {"x": 1.0}:
            x = x / form["x"]

        def noise(step: int, draw: int) -> Tensor:
            assert self._draw is not None
            z = self._draw(x)
            # in the x that it begins with there is this noise already
            return z * 0 if step == 0 and f"z{draw}" in form else z

        written = table.programs is None or torch.is_grad_enabled()
        source = noise if self._sampler.draws else None
        self._made, self.begun, self._loop = made, made, (replay if written else walk)(table, x, source)
        first = next(self._loop)
        assert isinstance(first, Request)
        self._request, self._x = first, first.x
        self._given, self._version, self._next = given, _version(given), index

    def answer(
        self, index: int, sample: Tensor, out: Tensor, normals: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Go on with an answer of the network.

        Args:
            index: of the evaluation.
            sample: (B, C, ...), where the network was asked.
            out: its raw output, (B, C, ...) or (B, 2 C, ...).
            normals: tensor -> normals like it.

        Returns:
            Where the network is to be asked next, at last the sample; and the predicted x0. Yours to write to.

        Raises:
            ValueError: for tensors of other shapes, an evaluation that is not the next one, and after an error ended the walk.
            FloatingPointError: after the last answer, for a sample that is not finite.
        """
        variance = None
        if out.ndim > 1 and out.shape == (len(sample), 2 * sample.shape[1], *sample.shape[2:]):
            out, variance = out.chunk(2, dim=1)
        if out.shape != sample.shape:
            raise ValueError(
                f"model_output has shape {tuple(out.shape)}, sample has {tuple(sample.shape)}; allowed: the same, or twice the channels "
                "(a learned variance)"
            )
        if not sample.is_floating_point():
            raise ValueError(f"sample is {sample.dtype}; allowed: a floating dtype, such as torch.float32")
        if self._lost:
            raise ValueError(f"this scheduler {self._lost} and can't go on; call set_timesteps and begin again")
        if self._loop is not None and index != self._next:
            raise ValueError(
                f"evaluation {index} is not the next one, {self._next}; does another loop use this scheduler? Give each its own"
            )
        if self._loop is not None and sample.shape != self._x.shape:
            raise ValueError(
                f"sample has shape {tuple(sample.shape)}; allowed: that of the last step, {tuple(self._x.shape)}"
            )
        self._draw, self._shown = normals, None
        work = sample.dtype if sample.dtype in (torch.float32, torch.float64) else torch.float32
        try:
            return self._go_on(index, sample, out, variance, work)
        except BaseException:
            if self._made < len(self.starts) or self._loop is not None:
                self._loop, self._lost = None, "met an error within a walk"
            raise

    def _go_on(
        self, index: int, sample: Tensor, out: Tensor, variance: Tensor | None, work: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        if self._loop is None:
            self._start(index, sample.to(work))
        x = self._met(sample)
        assert self._loop is not None
        if self._request is None:
            request = self._loop.send(None if x is self._x else x)
        else:
            request = self._request
        assert isinstance(request, Request)
        at = request.x if x is self._x else x
        out, variance = out.to(at.dtype), None if variance is None else variance.to(at.dtype)
        p = Prediction(at, request.level, out, self.row, variance)
        self._follow(self._loop.send(p))
        if self._loop is None:  # the end: it may be the network's own output, or the prediction's x0
            self._x = self._x.clone()
        self._given = self._x.to(sample.dtype)
        self._version, self._next = _version(self._given), index + 1
        return self._given, p.x0.to(sample.dtype, copy=True)

    def step(self, sample: Tensor | None) -> Step | None:
        """The step that the last answer ended; None where it ended none, and before the first. Its index counts from where the walk began.

        It has no source of noise, and its `denoise` refuses: who asks knows the network.

        Args:
            sample: where the caller stands now, if it may have put another tensor in place of the one it was given; None: it has not.

        Raises:
            ValueError: for a sample of another shape.
        """
        if self._shown is None:
            return None
        x, p, now, level = self._shown.x, self._shown.prediction, self.levels[self._made - 1], self.levels[self._made]
        if sample is not None and sample is not self._given:
            if sample.shape != x.shape:
                raise ValueError(
                    f"latents have shape {tuple(sample.shape)}; allowed: that of the step, {tuple(x.shape)}"
                )
            # what was not changed is the state itself: it keeps its digits, and is not yet moved to where the next step asks first
            scale = level.alpha if level.sigma == 0 else 1.0
            x = torch.where(sample == self._given, x, sample.to(x.dtype) * scale)
        elif _version(self._given) != self._version:
            x = self._given.to(x.dtype) * (level.alpha if level.sigma == 0 else 1.0)
        last = self._made == len(self.starts)
        return Step(self._made - 1 - self.begun, last, now, level, x, p.toward or p, _nobody, None)

    def _met(self, sample: Tensor) -> Tensor:
        """Where the network was asked: our own tensor, unless the caller has put another in its place."""
        if sample.dtype == self._x.dtype:
            if sample is not self._given:
                return sample
            # written to in place, it is another x than the one that the numbers stand for
            return self._x if _version(sample) == self._version else sample.view_as(sample)
        # half precision: what was not changed keeps its digits (asked of every element, so that no device is waited for)
        return torch.where(sample == self._x.to(sample.dtype), self._x, sample.to(self._x.dtype))

    def _follow(self, item: Request | Made) -> None:
        """Note where it is now; a step that begins by moving x is begun at once, so that the caller sees where it asks."""
        if isinstance(item, Request):
            self._request, self._x = item, item.x
            return
        self._made, self._request, self._x, self._shown = self._made + 1, None, item.x, item
        if self._made == len(self.starts):
            end = self.levels[-1]
            if end.sigma == 0 and end.alpha != 1:  # a path with scaled data ends at x = alpha x0
                self._x = item.x / end.alpha
            self._loop = None
            if not bool(
                torch.isfinite(self._x).all()
            ):  # the one look at a value: an error is better than a black picture
                raise FloatingPointError(
                    f"sampling returned numbers that are not finite: the network answered with nan, or {self._sampler} diverged in "
                    f"{len(self.starts)} steps"
                )
        elif not self._steps[self._made][0][1]:
            del item
            assert self._loop is not None
            self._follow(next(self._loop))


def _nobody(x: Tensor, level: Level) -> Prediction:
    raise ValueError(
        "a pipeline asks its network itself; give who looks again the network: FilterCallback(..., denoise=...)"
    )


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None in inference mode, which does not count."""
    return None if tensor.is_inference() else tensor._version


def _few(numbers: Sequence[int]) -> str:
    shown = [str(n) for n in numbers[:6]]
    return ", ".join([*shown, *(["..."] if len(numbers) > 6 else [])])

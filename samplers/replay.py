"""A step that runs as it is written, turned inside out: it is pure, so it can be run again until it asks for nothing new."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.noise import Noise
from ..schedules.prediction import Prediction
from ..schedules.rows import Row, check_pairing
from .requests import Made, Request
from .state import Sampler, State
from .table import recent
from .trajectory import checked
from .walk import Table, check_like, draw

__all__ = ["asks", "replay"]


class _Question(BaseException):
    """The step asks for an answer that is not recorded yet; no Exception, so that no sampler catches it."""

    def __init__(self, x: Tensor, level: Level) -> None:
        self.x, self.level = x, level


def replay(table: Table, x: Tensor, noise: Noise | None) -> Generator[Request | Made, Any, None]:
    """What `walk` is for a table of numbers, for any sampler: a step with k evaluations is run k + 1 times.

    Args:
        table: the sampler and its levels; its numbers, if it has any, are not used.
        x: (B, ...), at the first level.
        noise: see `trajectory`.
    """
    sampler, levels = table.sampler, [level.like(x) for level in table.levels]
    state = State(x)
    for i in range(len(levels) - 1):
        z = draw(sampler, noise, i, state.x)
        answers: list[Prediction] = []
        while True:
            left = iter(answers)

            def denoise(at: Tensor, level: Level, left: Any = left) -> Prediction:
                known = next(left, None)
                if known is None:
                    raise _Question(at, level)
                return known

            try:
                after, p = checked(sampler, sampler.step(state, denoise, recent(levels, i), z))
                break
            except _Question as asked:
                question = asked
            answers.append((yield Request(question.x, question.level, not answers)))
        check_like(f"x after a step of {type(sampler).__name__} (a network's answer of another shape?)", after.x, x)
        moved = yield Made(after.x, p)
        state = after if moved is None else after._replace(x=moved)


def asks(table: Table, row: Row) -> list[list[tuple[Level, bool]]]:
    """Per step, where the network will be asked: (level, whether at the very x that the step begins with).

    Known from the numbers of a table; a sampler without is walked twice, with other data, on a few numbers.

    Args:
        table: the sampler and its levels.
        row: of the network.

    Raises:
        ValueError: where how often it asks, or at which levels, depends on the data.
        PairingError: for a level at which the row says nothing.
    """
    if table.programs is not None:
        found = [[(level, form.terms == {"x": 1.0}) for form, level in program.asks] for program in table.programs]
        for step in found:
            for level, _ in step:
                check_pairing(row, level)
        return found
    found = _probe(table, row, 1.0)
    if [[level for level, _ in step] for step in found] != [
        [level for level, _ in step] for step in _probe(table, row, -0.5)
    ]:
        raise _depends(table.sampler)
    return found


def _depends(sampler: Sampler) -> ValueError:
    return ValueError(
        f"sampler is {sampler}: how often it asks the network, or at which levels, depends on the data, and a pipeline of diffusers "
        "makes a list of timesteps that it can't leave; use `trajectory` or `Model.sample`, or another sampler"
    )


def _probe(table: Table, row: Row, size: float) -> list[list[tuple[Level, bool]]]:
    x = size * torch.linspace(-1.0, 1.0, 64, dtype=torch.float64).view(1, 1, 8, 8)
    found: list[list[tuple[Level, bool]]] = []
    loop = replay(table, x, lambda step, draw: x)
    item = next(loop)
    while True:
        if isinstance(item, Request):
            if not item.level.is_scalar:
                raise _depends(table.sampler)
            check_pairing(row, item.level)
            if item.first:
                found.append([])
            found[-1].append((item.level, item.first and item.x is x))
            out = 0.5 * item.x
            item = loop.send(Prediction(item.x, item.level, out, row, torch.zeros_like(out)))
        else:
            x = item.x
            item = next(loop, None)
            if item is None:
                return found

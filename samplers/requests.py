"""A walk turned inside out: it says where the network is to be asked, and is sent the answers, as a pipeline of diffusers has them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, NamedTuple

from torch import Tensor

from ..schedules.level import Level
from ..schedules.noise import Noise
from ..schedules.prediction import Prediction
from .walk import Table, Walk

__all__ = ["Made", "Request", "walk"]


class Request(NamedTuple):
    """The network is to be asked: what does it believe at (x, level)? first: whether a step begins with it."""

    x: Tensor
    level: Level
    first: bool


class Made(NamedTuple):
    """A step has been made: x is the state after it, prediction what it shows."""

    x: Tensor
    prediction: Prediction


def walk(table: Table, x: Tensor, noise: Noise | None) -> Generator[Request | Made, Any, None]:
    """The steps of a table: yields a Request, to be answered by `send`, or a step that was Made.

    After a step that was Made it goes on from there, or from an x that is sent (a pipeline that paints over what must stay).
    """
    assert table.programs is not None
    on = Walk(table, x, noise)
    for _ in table.programs:
        on.begin()
        first = True
        while (level := on.level) is not None:
            at = on.at()
            on.answer((yield Request(at, level, first)), at)
            del at
            first = False
        x = on.end()
        assert on.shown is not None
        moved = yield Made(x, on.shown)
        if moved is not None:
            on.moved(moved)
        del x, moved  # what the loop alone still knows of may be written to in the next step

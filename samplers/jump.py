"""What guidance moves once a step is over: CFG++ guides steps, not the field that a method integrates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction, difference
from .form import Form
from .state import Denoise, State
from .table import recent
from .walk import Table

__all__ = ["Watched", "check_jump", "jump", "refuse_jump"]


def jump(p: Prediction, now: Level, nxt: Level) -> Tensor | None:
    """How far x moves after the step from now to nxt in which p was the last answer; None where p moves nowhere.

    Downwards the data are those of `p.toward` and the noise is p's, alpha' (toward.x0 - p.x0); upwards (inversion) the noise is that of
    `p.toward` and the data are p's, sigma' (toward.eps - p.eps).

    Args:
        p: the last answer of the step; its `toward` was made at the same place.
        now, nxt: the step, plain numbers or tensors that multiply x.

    Source: Chung et al. 2024 (2406.08070), sampling and inversion.
    """
    if p.toward is None:
        return None
    up = nxt.ratio > now.ratio
    if not isinstance(up, Tensor):
        if up:
            return nxt.sigma * difference(p, p.toward, "eps")
        return nxt.alpha * difference(p, p.toward, "x0")
    down_by, up_by = difference(p, p.toward, "x0"), difference(p, p.toward, "eps")
    return torch.where(up, nxt.sigma * up_by, nxt.alpha * down_by)


class Watched:
    """A denoiser whose last answer is remembered. All else of it is as it was."""

    def __init__(self, denoise: Denoise) -> None:
        self._denoise = denoise
        self.last: Prediction | None = None

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        self.last = self._denoise(x, level)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoise, name)


def refuse_jump(who: object, p: Prediction, instead: str) -> None:
    """Refuse a prediction that moves x after the step, where that has no meaning.

    Raises:
        ValueError: naming the part and what to do instead.
    """
    if isinstance(p, Prediction) and p.toward is not None:
        raise ValueError(
            f"{type(who).__name__} was given a guidance that moves x after each step of a grid (CFGPlusPlus); {instead}"
        )


def check_jump(table: Table, i: int) -> None:
    """Let the sampler refuse, in step i, predictions that move x: a table holds its numbers, and not what it refuses.

    Raises:
        ValueError: what the sampler refuses.
    """

    def denoise(x: Any, level: Level) -> Prediction:
        symbols: Any = Form.symbol("x0"), Form.symbol("eps")
        return Prediction.pair(*symbols).steered(Prediction.pair(*symbols))

    assert table.programs is not None
    memory = tuple(Form.symbol("m") for _ in (table.programs[i - 1].memory if i else ()))
    z = tuple(Form.symbol("z") for _ in range(table.sampler.draws))
    table.sampler.step(State(Form.symbol("x"), memory), denoise, recent(table.levels, i), z)

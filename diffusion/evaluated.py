"""What a network is fed, told and answers while a model samples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor, nn

from ..schedules.level import Level
from ..schedules.scalar import Number
from .clocks import Clock
from .model import Model

__all__ = ["Evaluation", "evaluated"]


class Evaluation(NamedTuple):
    """One call of a backbone.

    level: at which. x: (B, ...), what it was fed, scaled as it is. time: float32 (B,), what it was told. condition: its keyword
    arguments. out: its raw output.
    """

    level: Level
    x: Tensor
    time: Tensor
    condition: dict[str, Any]
    out: Tensor


@dataclass
class _Heard:
    """A clock that remembers the level that it was last asked for."""

    clock: Clock
    level: Level | None = None

    def __call__(self, level: Level) -> Number:
        self.level = level
        return self.clock(level)


@contextmanager
def evaluated(model: Model, note: Callable[[Evaluation], None]) -> Iterator[Model]:
    """The model, of whose network every evaluation is noted while the context lasts.

    A pair of x and time is taken where the network is called, so that none can be that of another step: the state after a step
    belongs to the next level.

    Args:
        model: the model; its network is shared.
        note: told of each evaluation. What it is given is the sampler's: to keep it, clone it.
    """
    denoiser = copy.copy(model.denoiser)  # its own clock, the same backbone
    heard = _Heard(denoiser.clock)
    denoiser.clock = heard
    noting = False

    def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any], out: Tensor) -> None:
        nonlocal noting
        if noting or heard.level is None:  # `note` itself may ask the network, or one that shares it
            return
        noting = True
        try:
            note(Evaluation(heard.level, args[0], args[1], kwargs, out))
        finally:
            noting = False

    handle = denoiser.backbone.register_forward_hook(hook, with_kwargs=True)
    try:
        yield replace(model, denoiser=denoiser)
    finally:
        handle.remove()

"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """The moving average of a module's state: parameters averaged, buffers and integers copied.

    The rate is min(decay, (1 + step) / (10 + step)), so that the start is forgotten.

    Args:
        module: whose state to average; its present values are the first average.
        decay: per optimizer step, 0 <= decay < 1; 0 follows the weights.

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"ema is {decay}; allowed: 0 <= ema < 1, such as 0.999")
        self.decay = decay
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}
        self._averaged = [k for k, _ in module.named_parameters(remove_duplicate=False)]

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after optimizer step `step`, 1, 2, ..."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = module.state_dict()
        averaged, current = [self.state[k] for k in self._averaged], [now[k] for k in self._averaged]
        torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for k in self.state.keys() - set(self._averaged):
            self.state[k].copy_(now[k])

    @contextmanager
    def swapped(self, module: nn.Module) -> Iterator[None]:
        """The module with the average as its weights, and its own again afterwards, whatever happens."""
        own = {k: v.detach().clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self.state)
        try:
            yield
        finally:
            module.load_state_dict(own)

"""Gradient checkpointing: what a block computed is computed again in the backward pass instead of being kept."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .blocks import around, blocks

__all__ = ["recompute_blocks"]


def recompute_blocks(backbone: nn.Module) -> None:
    """Keep only the input of each block for the backward pass; gradients are the same to the bit, dropout's draws too.

    Args:
        backbone: changed in place; the keys of its state dict stay as they are.

    Raises:
        ValueError: for a network without blocks.

    Source: Chen et al. 2016 (1604.06174).
    """
    found = blocks(backbone)
    if not found:
        raise ValueError(
            f"gradient_checkpointing is True, but {type(backbone).__name__} keeps no blocks in a ModuleList; set it to false"
        )
    for block in found:
        around(block, _Recomputed)


class _Recomputed:
    """A forward that is run again in the backward pass. An object rather than a closure, so that a deep copy of the block runs its own."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        functools.update_wrapper(self, forward)
        self._forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        return checkpoint(self._forward, *args, use_reentrant=False, preserve_rng_state=True, **kwargs)

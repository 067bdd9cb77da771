"""Buffers of a network (running statistics), as they were before a step that came to nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["buffers_of", "holders", "put_back"]


def holders(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers of some networks that have buffers of their own, for `buffers_of` to ask again and again.

    Args:
        modules: the networks.
    """
    return [
        layer for module in modules for layer in module.modules() if any(True for _ in layer.buffers(recurse=False))
    ]


def buffers_of(modules: Iterable[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Every buffer of some modules, and a copy of what it holds.

    Args:
        modules: the networks.
    """
    return [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]


@torch.no_grad()
def put_back(kept: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Let buffers hold again what they held.

    Args:
        kept: by `buffers_of`.
    """
    for buffer, was in kept:
        buffer.copy_(was)

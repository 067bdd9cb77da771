"""Buffers of a network (running statistics), as they were before a step that came to nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

__all__ = ["buffers_of", "buffers_within", "holders", "put_back"]


def holders(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers of some networks that may have buffers of their own, for `buffers_within` to ask again and again.

    Args:
        modules: the networks. A buffer that is None, and will be made when a network is first asked, counts.
    """
    return [layer for module in modules for layer in module.modules() if layer._buffers]


def buffers_within(layers: Iterable[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Every buffer of some layers themselves, and a copy of what it holds.

    Args:
        layers: what `holders` found.
    """
    return [(buffer, buffer.clone()) for layer in layers for buffer in layer._buffers.values() if buffer is not None]


def buffers_of(modules: Iterable[nn.Module]) -> list[tuple[Tensor, Tensor]]:
    """Every buffer of some modules, and a copy of what it holds.

    Args:
        modules: the networks.
    """
    return buffers_within(holders(modules))


@torch.no_grad()
def put_back(kept: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Let buffers hold again what they held.

    Args:
        kept: by `buffers_of` or `buffers_within`.
    """
    for buffer, was in kept:
        buffer.copy_(was)

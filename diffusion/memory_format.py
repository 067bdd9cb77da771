"""In which order the numbers of convolutions lie in memory."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

__all__ = ["MemoryFormat", "has_convolutions", "set_memory_format"]

MemoryFormat = Literal["contiguous", "channels_last"]

_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def has_convolutions(backbone: nn.Module) -> bool:
    """Whether a network has weights that can lie in another order: of convolutions in two or three dimensions."""
    return any(p.ndim in _LAST for p in backbone.parameters())


def set_memory_format(backbone: nn.Module, memory_format: MemoryFormat) -> None:
    """Lay the weights of convolutions out; activations follow them. Values stay, sums may be rounded otherwise.

    What is copied into the weights afterwards (a checkpoint, an average) takes their order, and so do gradients, averages and an
    optimizer's state that are made of them; files hold all of it contiguous.

    Args:
        backbone: changed in place, before its optimizer is made.
        memory_format: "channels_last", the channels of a pixel side by side; or "contiguous", the pixels of a channel.

    Raises:
        ValueError: for another one, and for "channels_last" of a network without such convolutions.
    """
    if memory_format not in ("contiguous", "channels_last"):
        raise ValueError(f"memory_format is {memory_format!r}; allowed: contiguous, channels_last")
    if memory_format == "channels_last" and not has_convolutions(backbone):
        raise ValueError(
            f"memory_format is 'channels_last', but {type(backbone).__name__} has no convolutions in two or three dimensions; set "
            "memory_format: contiguous, or auto"
        )
    for parameter in backbone.parameters():
        if parameter.ndim in _LAST:
            last = memory_format == "channels_last"
            parameter.data = parameter.data.contiguous(
                memory_format=_LAST[parameter.ndim] if last else torch.contiguous_format
            )

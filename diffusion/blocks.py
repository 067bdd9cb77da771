"""The blocks of a network: what is sharded, recomputed and compiled one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

__all__ = ["around", "blocks"]


def blocks(module: nn.Module) -> list[nn.Module]:
    """What a network's ModuleLists and ModuleDicts hold, in the order of registration; lists within a block belong to it.

    Args:
        module: a network. One that keeps its blocks otherwise has none.
    """
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        held = list(module.children())
        return [b for m in held for b in (blocks(m) if isinstance(m, nn.ModuleList | nn.ModuleDict) else [m])]
    return [b for child in module.children() for b in blocks(child)]


def around(module: nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put a function around a module's forward, within its hooks; the keys of its state dict stay as they are.

    Args:
        module: changed in place.
        wrap: forward -> forward.
    """
    module.forward = wrap(module.forward)

"""A network's forward pass, compiled for training."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from .blocks import around, blocks

__all__ = ["compile_forward"]

# per block: kinds of micro-batch (full, and remainder), and room for what autocast and hooks change
_VARIANTS = 4


def compile_forward(
    backbone: nn.Module, what: Literal["blocks", "whole"], backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Compile a network block by block, or whole; what runs without gradients (previews) stays as it is written.

    Blocks of one kind share what is compiled, so that twelve equal ones cost one compilation. Shapes are compiled as they are: a
    remainder of the batch costs a second one, at its first step, and later steps none. A graph that can't be made whole is an
    error, not a slower run.

    Args:
        backbone: changed in place; the keys of its state dict stay as they are.
        what: "blocks" or "whole".
        backend: of torch.compile.

    Raises:
        ValueError: for a network without blocks; when called, for what can't be compiled, with the reason.
    """
    found = blocks(backbone) if what == "blocks" else [backbone]
    if not found:
        raise ValueError(
            f"compile is 'blocks', but {type(backbone).__name__} keeps no blocks in a ModuleList; set compile: whole, or null"
        )
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "backend": backend}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:  # of 8 kinds of block, UNets have more
        options["recompile_limit"] = _VARIANTS * max(len(found), 8)
    for module in found:
        around(module, lambda forward: _Compiled(forward, options, what))


class _Compiled:
    """A forward that is compiled at its first call, and in a deep copy again."""

    def __init__(self, forward: Callable[..., Any], options: dict[str, Any], what: str) -> None:
        functools.update_wrapper(self, forward)
        self._forward, self._options, self._what = forward, options, what
        self._compiled: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **kwargs)
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        if self._compiled is None:
            self._compiled = torch.compile(self._forward, **self._options)
        try:
            return self._compiled(*args, **kwargs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            owner = type(getattr(self._forward, "__self__", self._forward)).__name__
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(
                f"compile is {self._what!r}, but {owner} can't be compiled: {reason}; set compile: null"
            ) from error

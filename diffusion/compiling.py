"""A network's forward pass, compiled: for training, or for sampling."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .blocks import around, blocks

__all__ = ["compile_forward"]

# per block: kinds of micro-batch (full, and remainder), and room for what autocast and hooks change
_VARIANTS = 4


def compile_forward(
    backbone: nn.Module,
    what: Literal["blocks", "whole"],
    backend: str | Callable[..., Any] = "inductor",
    inference: bool = False,
) -> None:
    """Compile a network block by block, or whole, for training or for sampling; the other of the two stays as it is written.

    Blocks of one kind share what is compiled, so that twelve equal ones cost one compilation. For training, shapes are compiled as
    they are: a remainder of the batch costs a second one, at its first step, and later steps none. For sampling, the size of the batch
    is left open: other steps, grids, rules, intervals and remainders cost none, and a network asked for a single sample, which torch
    compiles for itself, one more. A graph that can't be made whole is an error, not a slower run.

    Args:
        backbone: changed in place; the keys of its state dict stay as they are.
        what: "blocks" or "whole".
        backend: of torch.compile.
        inference: compile what runs without gradients (sampling, previews), rather than what runs with them.

    Raises:
        ValueError: for a network without blocks; when called, for what can't be compiled, with the reason.
    """
    if what not in ("blocks", "whole"):
        raise ValueError(f"compile is {what!r}; allowed: 'blocks', 'whole', or None")
    found = blocks(backbone) if what == "blocks" else [backbone]
    if not found:
        raise ValueError(
            f"compile is 'blocks', but {type(backbone).__name__} keeps no blocks in a ModuleList; set compile: whole, or null"
        )
    options: dict[str, Any] = {"fullgraph": True, "dynamic": None if inference else False, "backend": backend}
    if "recompile_limit" in inspect.signature(torch.compile).parameters:  # of 8 kinds of block, UNets have more
        options["recompile_limit"] = _VARIANTS * max(len(found), 8)
    for module in found:
        around(module, lambda forward: _Compiled(forward, options, what, inference))


class _Compiled:
    """A forward that is compiled at its first call, and in a deep copy again."""

    def __init__(self, forward: Callable[..., Any], options: dict[str, Any], what: str, inference: bool) -> None:
        functools.update_wrapper(self, forward)
        self._forward, self._options, self._what, self._inference = forward, options, what, inference
        self._compiled: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_compiled": None}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() == self._inference:
            return self._forward(*args, **kwargs)
        from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException

        if self._compiled is None:
            self._compiled = torch.compile(self._forward, **self._options)
        if self._inference:
            _leave_batch_open(args, kwargs)
        try:
            return self._compiled(*args, **kwargs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            owner = type(getattr(self._forward, "__self__", self._forward)).__name__
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(
                f"compile is {self._what!r}, but {owner} can't be compiled: {reason}; set compile: null"
            ) from error


def _leave_batch_open(args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Mark the first size of tensors that have as many rows as the first of them as one that may change."""
    from torch._dynamo import maybe_mark_dynamic

    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim]
    for tensor in tensors:
        if len(tensor) == len(tensors[0]):
            maybe_mark_dynamic(tensor, 0)

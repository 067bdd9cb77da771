"""A network of ours that computes in half precision when it samples, as training with that precision did."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .blocks import around

__all__ = ["HALVES", "halve_weights"]

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_PRODUCTS = (nn.Linear, nn.modules.conv._ConvNd)  # what autocast computes in half precision


def halve_weights(backbone: nn.Module, precision: str) -> None:
    """Sample under autocast, and keep the weights of linear layers and convolutions in half precision, as autocast would round them.

    So the answer is that of the same network under autocast, at half of the memory and without rounding the weights again at every
    call: to the bit, unless a network itself rounds what it is told to the dtype of its weights, as DDPMPP does. What autocast leaves in
    float32 stays there: norms, embeddings, buffers, the stream that blocks add to.

    Args:
        backbone: of ours, changed in place; it can't be trained any more.
        precision: of HALVES.
    """
    dtype = HALVES[precision]
    for module in backbone.modules():
        if isinstance(module, _PRODUCTS):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
                parameter.data = parameter.data.to(dtype)
    around(backbone, lambda forward: _Half(forward, dtype))


class _Half:
    """A forward under autocast."""

    def __init__(self, forward: Callable[..., Tensor], dtype: torch.dtype) -> None:
        functools.update_wrapper(self, forward)
        self._forward, self._dtype = forward, dtype

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        # weights that are rounded as they are used are used once a call: there is nothing to keep
        with torch.autocast(args[0].device.type, self._dtype, cache_enabled=False):
            return self._forward(*args, **kwargs)

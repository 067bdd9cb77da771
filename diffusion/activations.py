"""How much memory a backward pass will need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .blocks import blocks
from .recipe import Recipe
from .training_text import empty_condition

__all__ = ["activation_bytes"]


def activation_bytes(recipe: Recipe, micro_batch: int) -> int:
    """Bytes that the backward pass of a micro-batch keeps, beside the weights, measured with one sample and with two.

    Where blocks are recomputed, their inputs are kept, and what is between them, and the inside of the largest one at a time.

    Args:
        recipe: its backbone is on the host.
        micro_batch: samples, >= 1.
    """
    training = recipe.backbone.training
    recipe.backbone.eval()  # a look must not move running statistics
    try:
        one, two = _measured(recipe, 1), _measured(recipe, 2)
    finally:
        recipe.backbone.train(training)
    return one + (micro_batch - 1) * (two - one)


def _measured(recipe: Recipe, count: int) -> int:
    weights = {p.untyped_storage().data_ptr() for p in recipe.backbone.parameters()}
    outside: dict[int, int] = {}
    inside: list[dict[int, int]] = []
    inputs: list[Tensor] = []
    now: list[dict[int, int]] = [outside]

    def note(tensor: Tensor, where: dict[int, int]) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            where[storage.data_ptr()] = storage.nbytes()
        return tensor

    def enter(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # held, or another tensor might come to lie where one of them was
        inputs.extend(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        inside.append({})
        now.append(inside[-1])

    def leave(*called: object) -> None:
        now.pop()

    hooks = [
        hook
        for block in (blocks(recipe.backbone) if recipe.gradient_checkpointing else [])
        for hook in (block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave))
    ]
    dtype = next((p.dtype for p in recipe.backbone.parameters()), torch.float32)
    x = torch.zeros(count, *recipe.data.shape, dtype=dtype)
    condition = empty_condition(recipe, count, x.device) or {}
    try:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: note(t, now[-1]), lambda t: t):
            out = recipe.backbone(x, torch.zeros(count), **condition)  # held as long as what it keeps is counted
    finally:
        for hook in hooks:
            hook.remove()
    del out
    for tensor in inputs:
        note(tensor, outside)
    return sum(outside.values()) + max((sum(block.values()) for block in inside), default=0)

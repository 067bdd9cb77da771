"""Tensors that a loop may write to again: those that nobody else knows."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from .plan import Recipe, compute

__all__ = ["Buffers"]


def _counts(held: Sequence[Tensor], i: int) -> tuple[int, int, int]:
    """How many know a tensor of a list: references to it, references to its storage, uses of the storage (by views)."""
    storage = held[i].untyped_storage()
    return sys.getrefcount(held[i]), sys.getrefcount(storage), torch._C._storage_Use_Count(storage._cdata)


# the counts of a tensor that only its list knows, as this Python and PyTorch count
_ALONE = _counts([torch.empty(1)], 0)


def _free(held: Sequence[Tensor], i: int) -> bool:
    """Whether nobody but the list knows a tensor or its memory.

    A weak reference knows it, too. Memory shared with another process, or made in inference mode and met outside it, is left alone.
    """
    if _counts(held, i) != _ALONE or weakref.getweakrefcount(held[i]):
        return False
    shared = held[i].device.type == "cpu" and held[i].untyped_storage().is_shared()
    return not shared and (not held[i].is_inference() or torch.is_inference_mode_enabled())


class Buffers:
    """Tensors that the loop made. One is written to again only when nobody refers to it any more: no step that was kept, no
    memory of a rule, no cache of a network."""

    def __init__(self) -> None:
        self._made: list[Tensor] = []
        self._spare: list[Tensor] = []

    def collect(self) -> None:
        """Find out which are free; at the start of a step."""
        self._spare.clear()
        if torch.is_grad_enabled():  # the generator may be resumed in another mode than it began in
            return
        spare = [i for i in range(len(self._made)) if _free(self._made, i)]
        self._spare = [self._made[i] for i in spare]

    def compute(self, recipe: Recipe, tensors: Sequence[Tensor]) -> Tensor:
        """Carry out a recipe, into a free buffer when there is one."""
        if recipe.kind == "alias":
            return tensors[recipe.first]
        if self._spare:
            return compute(recipe, tensors, self._spare.pop())
        self._made.append(compute(recipe, tensors, None))
        return self._made[-1]

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
    tensor = held[i]
    if tensor.is_cpu and tensor.untyped_storage().is_shared():
        return False
    return not tensor.is_inference() or torch.is_inference_mode_enabled()


class Buffers:
    """Tensors that the loop made. One is written to again only when nobody refers to it any more: no step that was kept, no
    memory of a rule, no cache of a network, and no list of tensors that a step computes with."""

    def __init__(self) -> None:
        self._made: list[Tensor] = []  # the one written to longest ago first: it is the likeliest to be free

    def compute(self, recipe: Recipe, tensors: Sequence[Tensor]) -> Tensor:
        """Carry out a recipe on tensors that somebody refers to, into a free buffer when there is one."""
        if recipe.kind == "alias":
            return tensors[recipe.first]
        made, out = self._made, None
        if not torch.is_grad_enabled():  # the generator may be resumed in another mode than it began in
            for i in range(len(made)):
                if _free(made, i):
                    out = made.pop(i)
                    break
        made.append(compute(recipe, tensors, out))
        return made[-1]

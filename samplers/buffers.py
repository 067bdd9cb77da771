"""Tensors that a loop may write to: what a step no longer needs, and those that it made, where nobody else knows them."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from weakref import getweakrefcount

import torch
from torch import Tensor

from .plan import Recipe, compute

__all__ = ["Buffers"]


def _free(held: Sequence[Tensor], i: int) -> bool:
    """Whether nobody but the list knows a tensor or its memory.

    A weak reference knows it, too. Memory shared with another process, made in inference mode and met outside it, or lent by somebody
    else (an array of numpy, DLPack, a CUDA graph of torch.compile), whose own count nobody here sees, is left alone.
    """
    if getrefcount(held[i]) != _ALONE:  # the cheapest look
        return False
    tensor = held[i]
    storage = tensor.untyped_storage()
    if getrefcount(storage) != _STORAGE or uses(storage._cdata) != _USES or tensor._use_count() != 1:  # pyright: ignore[reportAttributeAccessIssue]
        return False  # uses of the memory, by views; of the tensor, by what autograd keeps
    if getweakrefcount(tensor) or not storage.resizable() or (tensor.is_cpu and storage.is_shared()):
        return False
    if tensor.requires_grad:  # it would go on as x with a history of its own
        return False
    return not tensor.is_inference() or torch.is_inference_mode_enabled()


uses = torch._C._storage_Use_Count


def _counts(held: Sequence[Tensor], i: int) -> tuple[int, int, int]:
    """Of a tensor of a list: references to it, to its storage, and uses of that."""
    alone = getrefcount(held[i])
    storage = held[i].untyped_storage()
    return alone, getrefcount(storage), uses(storage._cdata)


# the counts of a tensor that only its list knows, as this Python and PyTorch count
_ALONE, _STORAGE, _USES = _counts([torch.empty(1)], 0)


class Buffers:
    """Where results go. A tensor is written to only when nobody refers to it any more: no step that was kept, no memory of a rule, no
    cache of a network, and no place in the list of tensors that a step still computes with. All results lie in memory as x does.

    Args:
        x: what they are like.
    """

    def __init__(self, x: Tensor) -> None:
        self._like = x.shape, torch.empty_like(x, device="meta").stride(), x.dtype, x.device
        self._spare: list[Tensor] = []
        self._taken = 0  # how many results of this step lie in tensors that were spare or new

    def compute(self, recipe: Recipe, tensors: list[Tensor]) -> Tensor:
        """Carry out a recipe: over one of its tensors, into a spare one, or into a new one.

        Args:
            recipe: what to compute.
            tensors: of x's shape; what it may write over is referred to by this list alone, or it is left as it is.
        """
        if recipe.kind == "alias":
            return tensors[recipe.first]
        shape, stride, dtype, device = self._like
        if torch.is_grad_enabled():  # the generator may be resumed in another mode than it began in
            return compute(recipe, tensors, None)
        for k in recipe.over:
            # somebody's answer may lie in memory in another way, or elsewhere
            if _free(tensors, k) and (t := tensors[k]).stride() == stride and type(t) is Tensor and t.device == device:
                return compute(recipe, tensors, t)
        self._taken += 1
        spare = self._spare
        for i in range(len(spare) - 1, -1, -1):  # the one that was let go of last is the likeliest to be in a cache
            if _free(spare, i):
                return compute(recipe, tensors, spare.pop(i))
        return compute(recipe, tensors, torch.empty_strided(shape, stride, dtype=dtype, device=device))

    def spare(self, made: Sequence[Tensor]) -> None:
        """At the end of a step, let go of tensors that were made here: twice as many as the step took are kept (whoever reads steps may
        hold the last one), and are written to again once nobody else knows them. The others go back at once, so that a network gets
        memory that is still in a cache."""
        if self._taken or self._spare:
            self._spare += made
            del self._spare[: max(0, len(self._spare) - 2 * self._taken)]
            self._taken = 0

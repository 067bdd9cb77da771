"""Trees of tensors: nested tuples and dicts, every tensor batch-first, as conditions and as the memory of rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["Tree", "cat", "check_batch", "choose", "map_tree", "same_shape", "take"]

Tree: TypeAlias = Any
"""None, a tensor (B, ...), or a tuple or dict of trees."""


def same_shape(a: Tree, b: Tree) -> bool:
    """Whether two trees have the same structure and dtypes, and tensors of equal shape behind the batch."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape[1:] == b.shape[1:] and a.dtype == b.dtype
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_shape(a[k], b[k]) for k in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(same_shape(u, v) for u, v in zip(a, b, strict=True))
    return a is None and b is None


def check_batch(tree: Tree, size: int, name: str) -> None:
    """Refuse a tree that is none, or a tensor of it that has not one row per sample.

    Raises:
        ValueError: naming the place of the tensor in the tree, its shape and the number of samples.
    """
    if isinstance(tree, dict | tuple):
        places = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, part in places:
            check_batch(part, size, f"{name}[{key!r}]")
    elif isinstance(tree, Tensor):
        if tree.ndim == 0 or len(tree) != size:
            raise ValueError(
                f"{name} has shape {tuple(tree.shape)} for {size} sample(s); allowed: one row per sample, ({size}, ...); what is the same "
                "for all is repeated with expand"
            )
    elif tree is not None:
        map_tree(lambda v: v, tree)  # says what it is


def map_tree(f: Callable[..., Tensor], *trees: Tree) -> Tree:
    """f on the tensors at the same place of one or more trees.

    Raises:
        ValueError: for something that is not a tree.
    """
    first = trees[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return f(*trees)
    if isinstance(first, dict):
        return {k: map_tree(f, *(t[k] for t in trees)) for k in first}
    if isinstance(first, tuple):
        parts = [map_tree(f, *part) for part in zip(*trees, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    raise ValueError(
        f"a condition or memory holds a {type(first).__name__}; allowed: tensors with the batch first, dicts and tuples of them, None"
    )


def take(tree: Tree, index: Tensor | slice) -> Tree:
    """The samples at `index` (host int64, or a slice) of every tensor."""
    return map_tree(lambda v: v[index.to(v.device, non_blocking=True) if isinstance(index, Tensor) else index], tree)


def cat(*trees: Tree) -> Tree:
    """Trees of the same structure, joined along the batch."""
    return trees[0] if len(trees) == 1 else map_tree(lambda *v: torch.cat(v), *trees)


def choose(on: Tensor, a: Tree, b: Tree) -> Tree:
    """Per sample a where `on` (bool (B,)) is set, else b."""
    return map_tree(
        lambda u, v: torch.where(on.to(u.device, non_blocking=True).view(-1, *[1] * (u.ndim - 1)), u, v), a, b
    )

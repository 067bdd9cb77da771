"""Products of which half is known beforehand: symmetric ones, and those of triangles. Blocks leave out what need not be worked out."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["add_gram", "lower_outer", "lower_product", "mirrored"]

_LEAST, _MOST = 64, 8
"""Rows of a block, at least, and blocks, at most: more of them save less than their calls cost."""


def _blocks(d: int) -> Iterator[tuple[int, int]]:
    count = max(1, min(_MOST, d // _LEAST))
    for i in range(count):
        yield d * i // count, d * (i + 1) // count


def add_gram(rows: Tensor, into: Tensor) -> None:
    """Add rows^T rows to the lower triangle of `into`; above it, parts of the same product.

    Args:
        rows: (N, d). into: (d, d).
    """
    for start, end in _blocks(rows.shape[1]):
        into[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end])


def mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix with this lower triangle, (d, d)."""
    return lower.tril() + lower.tril(-1).T


def lower_product(a: Tensor, b: Tensor) -> Tensor:
    """a^T b of lower triangles, (d, d) each: a third of the work of a full product."""
    product = torch.zeros_like(a)
    for start, end in _blocks(len(a)):
        product[:end, :end].addmm_(a[start:end, :end].T, b[start:end, :end])
    return product


def lower_outer(a: Tensor) -> Tensor:
    """The lower triangle of a a^T, (d, d); above it are parts of the same product, and zeros."""
    product = torch.zeros_like(a)
    for start, end in _blocks(len(a)):
        torch.mm(a[start:end], a[:end].T, out=product[start:end, :end])
    return product

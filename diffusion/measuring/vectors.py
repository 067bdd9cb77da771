"""What every measure of feature vectors asks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

__all__ = ["check_vectors", "spans"]


def check_vectors(sets: Mapping[str, Tensor], least: int) -> None:
    """Refuse what are no feature vectors of one width.

    Args:
        sets: by name, each (N, d).
        least: how many vectors a set must have.

    Raises:
        ValueError: for another shape, or numbers that are not finite.
    """
    width = None
    for name, values in sets.items():
        if values.ndim != 2 or len(values) < least or values.shape[1] < 1:
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; allowed: (N, d) with N >= {least} and d >= 1; measure more pictures"
            )
        if not bool(torch.isfinite(values).all()):
            raise ValueError(
                f"{name} holds nan or infinite numbers; leave out pictures that no filter kept (Samples.kept)"
            )
        if width is not None and values.shape[1] != width:
            raise ValueError(
                f"{name} is {values.shape[1]} wide, the others {width}; allowed: one width: all from the same extractor"
            )
        width = values.shape[1]


def spans(count: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover range(count), the last one shorter."""
    for first in range(0, count, size):
        yield slice(first, min(first + size, count))

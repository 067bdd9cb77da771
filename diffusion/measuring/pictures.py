"""Pictures to be measured, as bytes: of a folder, a data set, or a tensor."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..data import Source

_BEYOND = 1.01  # of rounding, and no more

__all__ = ["OfSource", "OfTensor", "Pictures", "as_bytes", "batches"]


@runtime_checkable
class Pictures(Protocol):
    """An ordered set of pictures of one shape, read by index as bytes.

    Bytes are what a file holds: so a run and a folder of its pictures give the same numbers.
    """

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W), C of 1 or 3."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the pictures do."""
        ...

    def pixels(self, index: Tensor) -> Tensor:
        """uint8 (B, C, H, W) of those at `index`, int64 (B,)."""
        ...

    def classes(self) -> Tensor | None:
        """int64 (N,), the class that each should be (-1: not known), or None where nothing is known."""
        ...


def as_bytes(x: Tensor) -> Tensor:
    """Pictures in [-1, 1] as a PNG file would hold them.

    Args:
        x: (..., C, H, W), finite; what is outside of the range is cut.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: for numbers that are not finite: leave out pictures that no filter kept (Samples.kept).
    """
    if not bool(torch.isfinite(x).all()):
        raise ValueError(
            "pictures hold numbers that are not finite; leave out those that no filter kept (Samples.kept)"
        )
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


@dataclass(frozen=True, eq=False)
class OfTensor:
    """Pictures that are at hand.

    Args:
        x: uint8 (N, C, H, W), or floating in [-1, 1].
        labels: int64 (N,), or None.

    Raises:
        ValueError: for other shapes, or numbers that are not finite.
    """

    x: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim != 4 or self.x.shape[1] not in (1, 3) or len(self.x) < 1:
            raise ValueError(f"x has shape {tuple(self.x.shape)}; allowed: (N, C, H, W) with C of 1 or 3, N >= 1")
        if self.labels is not None and self.labels.shape != self.x.shape[:1]:
            raise ValueError(f"labels have shape {tuple(self.labels.shape)}; allowed: ({len(self.x)},)")
        if self.x.dtype != torch.uint8:
            least, most = (float(v) for v in self.x.float().aminmax())
            if most > _BEYOND or least < -_BEYOND:
                raise ValueError(
                    f"x goes from {least:.4g} to {most:.4g}; allowed: floating-point pictures in [-1, 1], or uint8; scale them, or cut "
                    "what went beyond by x.clamp(-1, 1)"
                )
            if least >= 0 and len(self.x) > 1:
                warnings.warn(
                    f"all numbers of these pictures are from {least:.4g} to {most:.4g}; floats are taken to be in [-1, 1]: of "
                    "pictures in [0, 1] give 2 * x - 1",
                    stacklevel=3,
                )
            object.__setattr__(self, "x", as_bytes(self.x))

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.x.shape[1:])

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.x.cpu().contiguous().numpy().tobytes()).hexdigest()[:16]

    def pixels(self, index: Tensor) -> Tensor:
        return self.x[index]

    def classes(self) -> Tensor | None:
        return self.labels


@dataclass(frozen=True, eq=False)
class OfSource:
    """The pictures of a data set, or the first of them.

    Args:
        source: of pictures.
        count: how many, from the first; None: all.

    Raises:
        ValueError: for data that are no pictures, and a count out of range.
    """

    source: Source
    count: int | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.source.shape)
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(
                f"the data are of shape {shape}, which are no pictures; allowed: (C, H, W) with C of 1 or 3"
            )
        if self.count is not None and not 1 <= self.count <= len(self.source):
            raise ValueError(f"count is {self.count}; allowed: 1 to {len(self.source)}, or null for all")

    def __len__(self) -> int:
        return len(self.source) if self.count is None else self.count

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.source.shape)

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint if self.count is None else f"{self.source.fingerprint}-{self.count}"

    def pixels(self, index: Tensor) -> Tensor:
        return as_bytes(self.source.batch(index).x)

    def classes(self) -> Tensor | None:
        if not self.source.num_classes:
            return None
        found = [self.source.batch(index).labels for index in torch.arange(len(self)).split(256)]
        return torch.cat([labels for labels in found if labels is not None])


def batches(pictures: Pictures, batch: int, part: tuple[int, int] = (0, 1)) -> Iterator[tuple[Tensor, Tensor]]:
    """Pictures a batch at a time, in order, as (index, pixels); of several processes each reads every count-th batch.

    Args:
        pictures: any.
        batch: at a time, >= 1.
        part: (rank, count) of this process.
    """
    rank, count = part
    for i, index in enumerate(torch.arange(len(pictures)).split(batch)):
        if i % count == rank:
            yield index, pictures.pixels(index)

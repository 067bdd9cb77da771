"""Augmentation: what is done to training pictures, by address, and what the network is told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["Augment", "Augmented", "Flip"]


class Augmented(NamedTuple):
    """x: (B, C, ...), like what was given. told: float32 (B, told), zero where nothing was done; None where nothing is ever told."""

    x: Tensor
    told: Tensor | None


@runtime_checkable
class Augment(Protocol):
    """Something done to pictures: a pure function of them and of uniform numbers that the trainer draws by address.

    What becomes of a sample depends on its own numbers alone, not on those that are beside it.
    """

    @property
    def draws(self) -> int:
        """Uniform numbers wanted per sample."""
        ...

    @property
    def told(self) -> int:
        """Numbers per sample that the network is told, its `augment_features`; 0: none."""
        ...

    def __call__(self, x: Tensor, u: Tensor) -> Augmented:
        """The pictures, changed.

        Args:
            x: (B, C, ...).
            u: uniform float64 (B, draws) in (0, 1), on any device; on the host nothing waits for it.
        """
        ...


@dataclass(frozen=True)
class Flip:
    """Mirror some of the pictures left to right (the last axis), and do not tell; not for latents, which `sfumato encode --mirror` is for.

    Args:
        share: of the pictures that are mirrored, 0 to 1.

    Raises:
        ValueError: for another share.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"Flip.share is {self.share}; allowed: 0 to 1")

    @property
    def draws(self) -> int:
        return 1

    @property
    def told(self) -> int:
        return 0

    def __call__(self, x: Tensor, u: Tensor) -> Augmented:
        mirrored = (u[:, 0] < self.share).to(x.device)
        return Augmented(torch.where(mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x), None)

"""Raw pixels as features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .extractor import Seen

__all__ = ["Pixels"]


@dataclass(frozen=True)
class Pixels:
    """The numbers of a picture, in [-1, 1], as they are: no network, no resizing.

    Args:
        shape: (C, H, W) of the pictures; their product is the number of features.

    Raises:
        ValueError: for another shape, when made or when asked.
    """

    shape: Sequence[int] = (1, 8, 8)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if (
            len(self.shape) != 3
            or self.shape[0] not in (1, 3)
            or not all(isinstance(n, int) and n >= 1 for n in self.shape)
        ):
            raise ValueError(f"Pixels.shape is {self.shape!r}; allowed: (channels, height, width), channels 1 or 3")

    @property
    def num_features(self) -> int:
        return math.prod(self.shape)

    @property
    def short(self) -> str:
        return "FD-pixels"

    @property
    def resize(self) -> str:
        return "none"

    def __call__(self, pictures: Tensor) -> Seen:
        if tuple(pictures.shape[1:]) != self.shape:
            raise ValueError(
                f"pictures are {tuple(pictures.shape[1:])}; Pixels.shape is {self.shape}; give their shape"
            )
        return Seen(pictures.flatten(1).to(torch.float32) / 127.5 - 1)

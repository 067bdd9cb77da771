"""Training data: sources that give batches by index."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Batch", "Digits", "Source"]


class Batch(NamedTuple):
    """x: float32 (B, C, *space), pictures in [-1, 1]. labels: int64 (B,), or None without classes.

    spread: standard deviation of each number of x, of which the trainer draws a sample by address, as x; VAE latents have one.
    """

    x: Tensor
    labels: Tensor | None
    spread: Tensor | None = None


@runtime_checkable
class Source(Protocol):
    """A data set, read by index: who asks for the same indices gets the same batch. The trainer owns the order."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample, channels first: (channels, height, width) of a picture."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 when there are none."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the data do; a resumed run compares it."""
        ...

    def batch(self, index: Tensor) -> Batch:
        """The samples at `index`, int64 (B,)."""
        ...


@dataclass(frozen=True)
class Digits:
    """scikit-learn's handwritten digits: 1,797 real scans, 8x8, one channel, ten classes. Ships with scikit-learn.

    Args:
        part: "all", or the "even" or "odd" half, for a comparison of real with real.

    Raises:
        ValueError: for another part, and, when read, without scikit-learn.
    """

    part: str = "all"

    def __post_init__(self) -> None:
        if self.part not in ("all", "even", "odd"):
            raise ValueError(f"Digits.part is {self.part!r}; allowed: 'all', 'even', 'odd'")

    @cached_property
    def _arrays(self) -> tuple[Tensor, Tensor]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ValueError("data Digits needs scikit-learn: pip install 'sfumato[quickstart]'") from error
        images, labels = load_digits(return_X_y=True)
        pick = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}[self.part]
        x = torch.tensor(np.asarray(images)[pick], dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
        return x, torch.tensor(np.asarray(labels)[pick], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._arrays[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 8, 8

    @property
    def num_classes(self) -> int:
        return 10

    @property
    def bins(self) -> int:
        """Values that a number of the data can take, over [-1, 1]."""
        return 17

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._arrays[0].numpy().tobytes() + self._arrays[1].numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        x, labels = self._arrays
        return Batch(x[index], labels[index])

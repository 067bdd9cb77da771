"""A data set without the samples that can't be read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .data import Batch, Source

__all__ = ["Excluding"]


@dataclass(frozen=True)
class Excluding:
    """A data set without some of its samples; the others keep their order.

    Args:
        source: the data set.
        bad: which samples of it are left out, by their index there.

    Raises:
        ValueError: for what is no index, and, when read, for one out of range, and where nothing is left.
    """

    source: Source
    bad: Sequence[int]

    def __post_init__(self) -> None:
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in self.bad):
            raise ValueError(f"Excluding.bad is {list(self.bad)[:8]}; allowed: indices of samples, from 0")
        object.__setattr__(self, "bad", tuple(sorted(set(self.bad))))

    @cached_property
    def _index(self) -> Tensor:
        count = len(self.source)
        if self.bad and self.bad[-1] >= count:
            raise ValueError(f"Excluding.bad names sample {self.bad[-1]} of {count}; allowed: 0 to {count - 1}")
        if len(self.bad) == count:
            raise ValueError(f"Excluding.bad names all of {count} samples, which leaves nothing; mend some of them")
        kept = torch.ones(count, dtype=torch.bool)
        kept[list(self.bad)] = False
        return kept.nonzero().flatten()

    def __len__(self) -> int:
        return len(self._index)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def num_classes(self) -> int:
        return self.source.num_classes

    @property
    def bins(self) -> int | None:
        """Values that a number of the data can take, over [-1, 1]; None where the source does not say."""
        return getattr(self.source, "bins", None)

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, by label; empty where the source does not say."""
        return getattr(self.source, "class_names", [])

    @property
    def fingerprint(self) -> str:
        text = f"{self.source.fingerprint} without {list(self.bad)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, as the source says; None where nothing is, or the source does not say."""
        asked = getattr(self.source, "problem", None)
        return None if asked is None else asked(int(self._index[index]))

    def batch(self, index: Tensor) -> Batch:
        return self.source.batch(self._index[index])

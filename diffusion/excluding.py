"""A data set without the samples that can't be read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .data import Source
from .subset import Subset

__all__ = ["Excluding"]


@dataclass(frozen=True)
class Excluding(Subset):
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
    def _index(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride, reportIncompatibleMethodOverride]
        count = len(self.source)
        if self.bad and self.bad[-1] >= count:
            raise ValueError(f"Excluding.bad names sample {self.bad[-1]} of {count}; allowed: 0 to {count - 1}")
        if len(self.bad) == count:
            raise ValueError(f"Excluding.bad names all of {count} samples, which leaves nothing; mend some of them")
        kept = torch.ones(count, dtype=torch.bool)
        kept[list(self.bad)] = False
        return kept.nonzero().flatten()

    @property
    def fingerprint(self) -> str:
        text = f"{self.source.fingerprint} without {list(self.bad)}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

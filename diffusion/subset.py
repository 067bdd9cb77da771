"""Some of the samples of a data set, as a data set."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .data import Batch, Source
from .texts import texts_of

__all__ = ["Subset"]


class Subset:
    """What `Split`, `Excluding` and `Captions` have in common: the source's answers, for the samples that `_index` names in their order."""

    source: Source

    @property
    def _index(self) -> Tensor:
        raise AssertionError("says which samples, int64 (count,)")

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

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, as the source says; None where nothing is, or the source does not say."""
        asked = getattr(self.source, "problem", None)
        return None if asked is None else asked(int(self._index[index]))

    def texts(self, index: Tensor) -> Sequence[tuple[str, ...]] | None:
        """The captions of some samples, as the source says; None where it has none."""
        return texts_of(self.source, self._index[index])

    def batch(self, index: Tensor) -> Batch:
        return self.source.batch(self._index[index])

"""Samples that a model is not trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from torch import Tensor

from ..schedules.noise import permutation
from .captions import Captions
from .data import Source
from .excluding import Excluding
from .subset import Subset

__all__ = ["Split", "held_out", "shared"]


@dataclass(frozen=True)
class Split(Subset):
    """Part of a data set: what is trained on, or the rest, held out for `sfumato calibrate` and measurements.

    Args:
        source: the data set.
        part: "train", or "held_out".
        share: of the samples that are held out, above 0 and below 1; which ones depends on the seed alone.
        seed: of the choice.

    Raises:
        ValueError: for another part or share.
    """

    source: Source
    part: Literal["train", "held_out"] = "train"
    share: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.part not in ("train", "held_out"):
            raise ValueError(f"Split.part is {self.part!r}; allowed: 'train', 'held_out'")
        if not 0.0 < self.share < 1.0:
            raise ValueError(f"Split.share is {self.share}; allowed: above 0 and below 1")

    @cached_property
    def _index(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride, reportIncompatibleMethodOverride]
        order = permutation(self.seed, 0, len(self.source))
        held = round(self.share * len(order))
        if not 0 < held < len(order):
            raise ValueError(
                f"Split.share is {self.share}, which leaves nothing of one part of {len(order)} samples; allowed: a share of at least one "
                "sample, and not of all"
            )
        return (order[held:] if self.part == "train" else order[:held]).sort().values

    @property
    def fingerprint(self) -> str:
        text = f"{self.source.fingerprint} {self.part} {self.share!r} {self.seed}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def held_out(data: Source) -> Source | None:
    """The samples that were held out of a training set; None where there are none."""
    data = _whole(data)
    if isinstance(data, Captions):
        held = held_out(data.source)
        return None if held is None else replace(data, source=held)
    return replace(data, part="held_out") if isinstance(data, Split) and data.part == "train" else None


def shared(trained: Source, data: Source) -> bool:
    """Whether two sets may hold the same samples, as far as can be told: of one source, and not the two parts of one split."""
    trained, data = _bare(trained), _bare(data)
    if (
        isinstance(trained, Split) and isinstance(data, Split) and trained.part != data.part
        and replace(data, part=trained.part).fingerprint == trained.fingerprint
    ):  # fmt: skip
        return False
    return _root(trained).fingerprint == _root(data).fingerprint


def _whole(data: Source) -> Source:
    """Data with the samples that were left out of them: leaving some out moves none to the other part of a split."""
    return _whole(data.source) if isinstance(data, Excluding) else data


def _bare(data: Source) -> Source:
    """Data without what only adds words or leaves samples out: the pictures are the same."""
    return _bare(data.source) if isinstance(data, Excluding | Captions) else data


def _root(data: Source) -> Source:
    return _root(data.source) if isinstance(data, Subset) else data

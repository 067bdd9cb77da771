"""What is asked of two sets of pictures, and what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from .frechet import Moments

__all__ = ["Answer", "Question", "Side"]


@dataclass(frozen=True, eq=False)
class Side:
    """What was seen of one set of pictures.

    Args:
        features: float32 (N, d).
        moments: of the features; None: not asked for.
        logits: (N, K) of the classifier, or None.
        labels: int64 (N,), -1 where not known, or None.
        brightness: float64 (N,), 0 to 255.
    """

    features: Tensor
    logits: Tensor | None
    labels: Tensor | None
    brightness: Tensor
    moments: Moments | None = None

    def __len__(self) -> int:
        return len(self.features)

    def part(self, pick: slice | Tensor) -> Side:
        """Some of the pictures, without moments."""
        logits, labels = (None if t is None else t[pick] for t in (self.logits, self.labels))
        return Side(self.features[pick], logits, labels, self.brightness[pick])


class Question(NamedTuple):
    """fake: what is measured. real: the reference, None where there is none; moments: those of the reference, which may be all that is
    known of it. training, held_out: for memorisation, features or None. classes: how many the pictures have, 0: not known. seed, k: of
    measures that draw, and that look at neighbours. sure: whether errors are wanted that cost much more than the number."""

    fake: Side
    real: Side | None
    moments: Moments | None
    training: Tensor | None
    held_out: Tensor | None
    classes: int
    seed: int
    k: int
    sure: bool = True


class Answer(NamedTuple):
    """value, and how sure it is; details: for figures."""

    value: float
    error: float | None = None
    low: float | None = None
    high: float | None = None
    details: Mapping[str, Any] = {}

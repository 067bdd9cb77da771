"""A network called in chunks of a size, whatever it is asked for at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..guidance.tree import Tree, take
from ..schedules import Level, Prediction, Schedule
from .denoiser import Denoiser

__all__ = ["Chunked"]


@dataclass(frozen=True)
class Chunked:
    """A network that never sees more than `most` samples at a time; or, filled up with repeats, never another number of them.

    Filled, it sees the next multiple of 8: of 5, 6 or 7 samples on two threads the last ones were seen to be rounded otherwise than the
    first, since matrix products go by blocks of rows.

    denoiser: the network. most: samples at a time, >= 1. fill: whether it always sees as many.
    """

    denoiser: Denoiser
    most: int
    fill: bool = False

    @property
    def schedule(self) -> Schedule:
        """The network's path."""
        return self.denoiser.schedule

    def check(self, levels: Sequence[Level]) -> None:
        """Refuse what the network refuses (PairingError)."""
        self.denoiser.check(levels)

    def __call__(self, x: Tensor, level: Level, condition: Tree) -> Prediction:
        count = len(x)
        most = -(-self.most // 8) * 8 if self.fill else self.most
        if self.fill and count % most:
            # which samples come with a sample is a rule's choice, and must not move its last bit
            index = torch.arange(-(-count // most) * most).clamp_max(count - 1)
            own, at, given = take(x, index), level.rows(index), take(condition, index)
        else:
            own, at, given = x, level, condition
        cuts = [slice(i, i + most) for i in range(0, len(own), most)]
        answers = [self.denoiser.answer(own[cut], at.rows(cut), take(given, cut)) for cut in cuts]
        variances = [a.variance for a in answers if a.variance is not None]
        variance = torch.cat(variances)[:count] if variances else None
        return Prediction(x, level, torch.cat([a.out for a in answers])[:count], self.denoiser.row, variance)

"""What training draws, by address: a function of (seed, step, place in the global batch), whatever drew before.

So a resumed run, another micro-batch or another number of processes trains on the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules import Density, Level, Schedule, Stream, gaussian, permutation, uniform

__all__ = ["DataOrder", "Draw", "draw"]


class DataOrder:
    """The order of the data: a fresh permutation per epoch, a function of (seed, epoch).

    Args:
        seed: of the run.
        size: of the data set, >= 1.
    """

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def __call__(self, positions: Tensor) -> Tensor:
        """The data indices at positions 0, 1, ... of the run, int64 (B,); a batch may span epochs."""
        epochs, within = positions // self.size, positions % self.size
        index = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            if epoch != self._epoch:
                self._epoch, self._order = epoch, permutation(self.seed, epoch, self.size)
            here = epochs == epoch
            index[here] = self._order[within[here]]
        return index


class Draw(NamedTuple):
    """For some places of a global batch: level of float64 (B,) tensors, factor of the density, eps like the data, and which
    labels to drop, bool (B,)."""

    level: Level
    factor: Tensor | float
    eps: Tensor
    dropped: Tensor


def draw(
    seed: int, step: int, places: Tensor, batch: int, shape: tuple[int, ...], density: Density, schedule: Schedule,
    label_dropout: float, device: torch.device,
) -> Draw:  # fmt: skip
    """Draw for some places of the global batch of one step.

    Args:
        seed: of the run.
        step: optimizer step, 0, 1, ...
        places: int64 (B,) on the host, in [0, batch).
        batch: size of the global batch; levels are stratified over all of it.
        shape: of one sample.
        density, schedule: of the levels.
        label_dropout: share of labels to drop.
        device: of the result.
    """
    places = places.to(device)
    seeds = torch.full_like(places, seed)
    u = uniform(seeds, places, step, 1, Stream.TRAIN_TIME)[:, 0]
    # one stratum per place: each batch covers the density evenly. The data order is random, so no place is special.
    drawn = density((places + u) / batch, schedule)
    eps = gaussian(seeds, places, step, 0, shape, stream=Stream.TRAIN_NOISE)
    dropped = uniform(seeds, places, step, 1, Stream.TRAIN_DROPOUT)[:, 0] < label_dropout
    return Draw(drawn.level, drawn.weight, eps, dropped)

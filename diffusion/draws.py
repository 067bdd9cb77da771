"""What training draws, by address: a function of (seed, step, place in the global batch), whatever drew before.

So a resumed run, another micro-batch or another number of processes trains on the same numbers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules import Density, Level, Schedule, Stream, gaussian, permutation, uniform

__all__ = ["DataOrder", "Draw", "Drawing"]

_AT_ONCE = 1 << 16  # normals of several steps that are made together


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
        numbers = positions.tolist()
        first = min(numbers) // self.size
        if max(numbers) // self.size == first:  # as nearly always, which takes fewer operations
            return self._of(first)[positions - first * self.size]
        epochs, within = positions // self.size, positions % self.size
        index = torch.empty_like(positions)
        for epoch in epochs.unique().tolist():
            here = epochs == epoch
            index[here] = self._of(epoch)[within[here]]
        return index

    def _of(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, permutation(self.seed, epoch, self.size)
        return self._order


class Draw(NamedTuple):
    """For some places of a global batch: level of float64 (B,) tensors, factor of the density, eps like the data, and which
    labels to drop, bool (B,)."""

    level: Level
    factor: Tensor | float
    eps: Tensor
    dropped: Tensor


class _Numbers(NamedTuple):
    """Quantiles of the levels, float64 (B,), which labels to drop, bool (B,), and standard normals (B, ...)."""

    quantiles: Tensor
    dropped: Tensor
    eps: Tensor


class Drawing:
    """Draws for step after step; where batches are small, numbers of some steps at once, which takes fewer operations.

    Args:
        seed: of the run.
        batch: size of the global batch; levels are stratified over all of it.
        shape: of one sample.
        schedule: of the levels.
        label_dropout: share of labels to drop.
        device: of the result.
    """

    def __init__(
        self, seed: int, batch: int, shape: tuple[int, ...], schedule: Schedule, label_dropout: float, device: torch.device
    ) -> None:  # fmt: skip
        self._seed, self._batch, self._shape, self._schedule = seed, batch, shape, schedule
        self._label_dropout, self._device = label_dropout, device
        # of a micro-batch by its first place and its size: the step that they begin with, and a row per step and place
        self._ahead: dict[tuple[int, int], tuple[int, list[_Numbers]]] = {}

    def __call__(self, step: int, places: Tensor, density: Density) -> Draw:
        """Draw for some places of one step.

        Args:
            step: optimizer step, 0, 1, ...
            places: int64 (B,) on the host, in [0, batch); those of one size that begin with one place are always the same.
            density: of the levels, as it is known now.
        """
        quantiles, dropped, eps = self._numbers(step, places)
        # not ahead: a density may have learned, and where it takes logarithms, a number's place in a tensor shows in its last bit
        drawn = density(quantiles, self._schedule)
        return Draw(drawn.level, drawn.weight, eps, dropped)

    def _numbers(self, step: int, places: Tensor) -> _Numbers:
        first, count = int(places[0]), len(places)
        begins, rows = self._ahead.get((first, count), (0, []))
        if not begins <= step < begins + len(rows):
            # of the whole batch: many micro-batches, or single samples that are looked at, hold no more than that together
            steps = max(1, _AT_ONCE // (self._batch * math.prod(self._shape)))
            there = torch.arange(step, step + steps, device=self._device)
            begins, rows = step, self._drawn(there, places.to(self._device))
            if steps > 1:
                self._ahead[first, count] = begins, rows
        return rows[step - begins]

    def _drawn(self, steps: Tensor, places: Tensor) -> list[_Numbers]:
        """A row for each step."""
        at, step = places.repeat(len(steps)), steps.repeat_interleave(len(places))
        seeds = torch.full_like(at, self._seed)
        level, label = (
            uniform(seeds, at, step, 1, stream)[:, 0] for stream in (Stream.TRAIN_TIME, Stream.TRAIN_DROPOUT)
        )
        eps = gaussian(seeds, at, step, 0, self._shape, stream=Stream.TRAIN_NOISE)
        # one stratum per place: each batch covers the density evenly. The data order is random, so no place is special.
        quantiles = (at + level) / self._batch
        parts = (v.unflatten(0, (len(steps), -1)).unbind() for v in (quantiles, label < self._label_dropout, eps))
        return [_Numbers(*row) for row in zip(*parts, strict=True)]

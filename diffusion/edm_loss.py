"""The error of training in EDM's units, which can be compared between rows, paths and weightings."""

from __future__ import annotations

import torch
from torch import Tensor

from ..schedules import EDMWeighting, Level, Row
from ..schedules.weighting import output_weight
from .data import Source

__all__ = ["data_std", "edm_loss"]


def edm_loss(error: Tensor, row: Row, level: Level, data_std: float) -> Tensor:
    """The squared error of x0 times (sigma^2 + data_std^2) / (sigma data_std)^2, from that of the output, whatever the row is.

    An error of x0 gives the same number for every row, path and weighting: about 1 at every level for a network that knows no more
    than the mean and standard deviation of the data. A mean of it also depends on which levels were drawn.

    Args:
        error: mean squared error of the output per sample, (B,).
        row: what the output means.
        level: of tensors (B,).
        data_std: standard deviation of the data, > 0; see `data_std`.

    Returns:
        float64 (B,).

    Source: Karras et al. 2022 (2206.00364), table 1 and eq. 8.
    """
    return output_weight(EDMWeighting(data_std), row, level) * error.double()


def data_std(source: Source, count: int = 1024) -> float:
    """The standard deviation of all numbers of up to `count` samples, evenly spaced over the data set, always the same ones.

    Args:
        source: the data.
        count: samples, >= 1.

    Raises:
        ValueError: for count < 1, no data, or data that are all equal or not finite.
    """
    if count < 1 or len(source) < 1:
        raise ValueError(
            f"the standard deviation is asked of {count} of {len(source)} samples; allowed: at least one of each"
        )
    picked = torch.arange(min(count, len(source))) * len(source) // min(count, len(source))
    # sums, so that no more than a batch is in memory
    total, squares, numbers = 0.0, 0.0, 0
    for index in picked.split(64):
        x = source.batch(index).x.double()
        total, squares, numbers = total + float(x.sum()), squares + float(x.square().sum()), numbers + x.numel()
    variance = squares / numbers - (total / numbers) ** 2
    if not 1e-12 < variance < float("inf"):
        raise ValueError(
            f"the data have the variance {variance:.3g}; allowed: finite and above 0; look at what the source gives"
        )
    return variance**0.5

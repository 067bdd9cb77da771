"""Mean and standard deviation of latents, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .latents import LOG_VARIANCE, MEAN
from .npy import open_npy

__all__ = ["channel_statistics"]

_ROWS = 1024  # read at a time
_DTYPES = ("float16", "float32")


def channel_statistics(
    folder: Path, spread: bool, shift: Sequence[float], scaling: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of what a network is trained on, samples of the posterior: E[mean^2 + spread^2].

    Args:
        folder: of the files.
        spread: whether there is a log-variance.
        shift, scaling: one number per channel, see `LatentArray`.
    """
    rows = open_npy(folder / MEAN, "latents", _DTYPES)
    around = open_npy(folder / LOG_VARIANCE, "latents", _DTYPES) if spread else None
    below, times = (np.reshape(v, (-1, *[1] * (rows.ndim - 2))) for v in (shift, scaling))
    total, squares = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
    axes = (0, *range(2, rows.ndim))
    for i in range(0, len(rows), _ROWS):
        x = (rows[i : i + _ROWS].astype(np.float64) - below) * times
        total += x.sum(axes)
        squares += (x * x).sum(axes)
        if around is not None:
            squares += (np.exp(around[i : i + _ROWS].astype(np.float64)) * times**2).sum(axes)
    count = rows.size / rows.shape[1]
    mean = total / count
    return mean.tolist(), np.sqrt(np.maximum(squares / count - mean**2, 0)).tolist()

"""What a loss weighting is: stored once, as a function W of log-SNR on the error of x0, and derived for every prediction type.

At fixed x the error of the output is det / sigma times the error of x0 (det = alpha * b - sigma * a), so the weight of the output's
squared error is W * sigma^2 / det^2: the same network output expressed in any row gives the same loss.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from .level import Level
from .rows import Row, determinant

__all__ = ["Weighting", "output_weight"]


@runtime_checkable
class Weighting(Protocol):
    """A loss weighting: W(log-SNR), the weight of the squared error of x0."""

    def __call__(self, log_snr: Tensor) -> Tensor:
        """The weights at finite log-SNR, a tensor of any shape."""
        ...


def output_weight(weighting: Weighting, row: Row, level: Level) -> Tensor:
    """The weight of the squared error of the network's output, W * sigma^2 / det^2, with its limits at both ends.

    Args:
        weighting: W on the error of x0.
        row: what the network predicts.
        level: of tensors, any shape. Exact zeros of alpha or sigma give the limit (Min-SNR on eps is 1 at zero SNR, not 0 / 0).

    Returns:
        float64, of the level's shape.
    """
    # weights span 50 orders of magnitude towards the ends, more than float32 has
    at = Level(*(v.double() if isinstance(v, Tensor) else v for v in level)).finite()
    log_snr = at.log_snr
    assert isinstance(log_snr, Tensor)
    return weighting(log_snr) * (at.sigma / determinant(row, at)) ** 2

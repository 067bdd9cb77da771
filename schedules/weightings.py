"""Loss weightings: stored once, as a function W of log-SNR on the error of x0, and derived for every prediction type.

At fixed x the error of the output is det / sigma times the error of x0 (det = alpha * b - sigma * a), so the weight of the output's
squared error is W * sigma^2 / det^2: the same network output expressed in any row gives the same loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .level import Level
from .rows import Row, determinant

__all__ = ["EDMWeighting", "MinSNR", "Weighting", "output_weight"]


@runtime_checkable
class Weighting(Protocol):
    """A loss weighting: W(log-SNR), the weight of the squared error of x0."""

    def __call__(self, log_snr: Tensor) -> Tensor:
        """The weights at finite log-SNR, a tensor of any shape."""
        ...


@dataclass(frozen=True)
class MinSNR:
    """W = min(SNR, gamma): on eps min(1, gamma / SNR), on v min(SNR, gamma) / (SNR + 1).

    Args:
        gamma: where the weight stops growing, > 0.

    Raises:
        ValueError: for gamma <= 0.

    Source: Hang et al. 2023 (2303.09556), eq. 7.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"MinSNR.gamma is {self.gamma}; allowed: > 0 (the paper's is 5)")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.exp(log_snr.clamp(max=math.log(self.gamma)))


@dataclass(frozen=True)
class EDMWeighting:
    """W = SNR + 1 / data_std^2: weight 1 on the output of the EDM row with the same data_std.

    Args:
        data_std: standard deviation of the data, > 0.

    Raises:
        ValueError: for data_std <= 0.

    Source: Karras et al. 2022 (2206.00364), table 1.
    """

    data_std: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.data_std < math.inf:
            raise ValueError(
                f"EDMWeighting.data_std is {self.data_std}; allowed: > 0 (the standard deviation of the data)"
            )

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.exp(log_snr) + self.data_std**-2


def output_weight(weighting: Weighting, row: Row, level: Level) -> Tensor:
    """The weight of the squared error of the network's output, W * sigma^2 / det^2, with its limits at both ends.

    Args:
        weighting: W on the error of x0.
        row: what the network predicts.
        level: of tensors, any shape. Exact zeros of alpha or sigma give the limit (Min-SNR on eps is 1 at zero SNR, not 0 / 0).
    """
    at = level.finite()
    log_snr = at.log_snr
    assert isinstance(log_snr, Tensor)
    return weighting(log_snr) * (at.sigma / determinant(row, at)) ** 2

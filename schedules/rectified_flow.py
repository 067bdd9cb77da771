"""The straight path of rectified flow and flow matching."""

from __future__ import annotations

from dataclasses import dataclass

from .level import Level
from .scalar import Number, sigmoid

__all__ = ["RectifiedFlow"]


@dataclass(frozen=True)
class RectifiedFlow:
    """alpha = 1 - t, sigma = t: the straight line from data to noise, with zero SNR at t = 1.

    Source: Liu et al. 2023 (2209.03003), Lipman et al. 2023 (2210.02747); both count t from noise to data.
    """

    def __call__(self, t: Number) -> Level:
        return Level(t, 1.0 - t, t)

    def at_log_snr(self, log_snr: Number) -> Level:
        half = 0.5 * log_snr
        return Level(sigmoid(-half), sigmoid(half), sigmoid(-half))

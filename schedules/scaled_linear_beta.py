"""The scaled-linear schedule of latent diffusion, continuous."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number, divide, exp, expm1, softplus, sqrt, where

__all__ = ["ScaledLinearBeta"]


@dataclass(frozen=True)
class ScaledLinearBeta:
    """alpha(t)^2 = exp(-integral of beta), sqrt(beta) growing linearly from sqrt(low) to sqrt(high).

    Its terminal SNR is 4.8e-3, not zero: see ZeroTerminalSNR. Stable Diffusion's own table is Table.scaled_linear().

    Args:
        low: beta per unit of time at t = 0, 0 < low < high.
        high: beta per unit of time at t = 1. The defaults are 1000 times those of Stable Diffusion's 1000 steps.

    Raises:
        ValueError: unless 0 < low < high.

    Source: Rombach et al. 2022 (2112.10752), the released configs.
    """

    low: float = 0.85
    high: float = 12.0

    def __post_init__(self) -> None:
        if not 0.0 < self.low < self.high < math.inf:
            raise ValueError(f"ScaledLinearBeta(low={self.low}, high={self.high}); allowed: 0 < low < high")

    def __call__(self, t: Number) -> Level:
        root, slope = math.sqrt(self.low), math.sqrt(self.high) - math.sqrt(self.low)
        # ((root + slope t)^3 - root^3) / (3 slope), multiplied out so that nothing cancels
        integral = t * (root**2 + t * (root * slope + t * slope**2 / 3.0))
        return Level(t, exp(-integral / 2), sqrt(-expm1(-integral)))

    def at_log_snr(self, log_snr: Number) -> Level:
        root, slope = math.sqrt(self.low), math.sqrt(self.high) - math.sqrt(self.low)
        integral = softplus(-log_snr)
        cube = (root**3 + 3.0 * slope * integral) ** (1 / 3)
        # (cube - root) / slope as a difference of cubes
        t = divide(3.0, divide(cube, integral) * cube + divide(root, integral) * (cube + root))
        return Level.from_log_snr(where(integral == math.inf, math.inf, t), log_snr)

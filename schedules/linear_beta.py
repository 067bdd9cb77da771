"""The linear-beta schedule of DDPM and score SDEs, continuous."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number, divide, exp, expm1, softplus, sqrt

__all__ = ["LinearBeta"]


@dataclass(frozen=True)
class LinearBeta:
    """alpha(t)^2 = exp(-(low * t + (high - low) / 2 * t^2)): beta grows linearly from low to high.

    low, high: beta per unit of time at t = 0 and t = 1, 0 < low <= high. The defaults are the continuous twin of DDPM's
    linspace(1e-4, 0.02, 1000). Its terminal SNR is 4.3e-5, not zero: see ZeroTerminalSNR.

    Raises ValueError unless 0 < low <= high. Source: Song et al. 2021 (2011.13456), eq. 33.
    """

    low: float = 0.1
    high: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 < self.low <= self.high < math.inf:
            raise ValueError(f"LinearBeta(low={self.low}, high={self.high}); allowed: 0 < low <= high < inf")

    def __call__(self, t: Number) -> Level:
        integral = t * (self.low + (self.high - self.low) / 2 * t)
        return Level(t, exp(-integral / 2), sqrt(-expm1(-integral)))

    def at_log_snr(self, log_snr: Number) -> Level:
        integral = softplus(-log_snr)
        # the positive root of (high - low) / 2 t^2 + low t = integral, in a form that neither cancels nor is inf / inf
        slope = divide(self.low, integral)
        t = divide(2.0, slope + sqrt(slope**2 + divide(2.0 * (self.high - self.low), integral)))
        return Level.from_log_snr(t, log_snr)

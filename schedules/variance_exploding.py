"""Variance-exploding paths: the data keep their scale, the noise grows."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number, exp

__all__ = ["VarianceExploding"]


@dataclass(frozen=True)
class VarianceExploding:
    """alpha = 1 and sigma from low to high: its rho-th root linear in t, or, for rho = inf, its logarithm.

    A path from low > 0 has no data at t = 0; grids end at data all the same.

    Args:
        low: sigma at t = 0, >= 0, and > 0 for rho = inf.
        high: sigma at t = 1, > low.
        rho: >= 1; 7 is EDM's, inf the geometric path of score SDEs (low 0.01, high 50 and more).

    Raises:
        ValueError: for other values.

    Source: Karras et al. 2022 (2206.00364), eq. 5; Song et al. 2021 (2011.13456), eq. 30 for rho = inf.
    """

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.low < self.high < math.inf and self.rho >= 1 and (self.low > 0 or self.rho < math.inf)):
            raise ValueError(
                f"VarianceExploding(low={self.low}, high={self.high}, rho={self.rho}); allowed: 0 <= low < high, rho >= 1, and "
                "low > 0 for rho = inf"
            )

    def __call__(self, t: Number) -> Level:
        if self.rho == math.inf:
            return Level(t, 1.0, exp(math.log(self.low) + t * math.log(self.high / self.low)))
        first, last = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
        return Level(t, 1.0, (first + t * (last - first)) ** self.rho)

    def at_log_snr(self, log_snr: Number) -> Level:
        sigma = exp(-0.5 * log_snr)
        if self.rho == math.inf:
            t = (-0.5 * log_snr - math.log(self.low)) / math.log(self.high / self.low)
        else:
            first, last = self.low ** (1 / self.rho), self.high ** (1 / self.rho)
            t = (exp(-0.5 * log_snr / self.rho) - first) / (last - first)
        return Level(t, 1.0, sigma)

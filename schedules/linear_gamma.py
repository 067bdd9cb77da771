"""The simplest schedule: the signal's share of the variance falls linearly."""

from __future__ import annotations

from dataclasses import dataclass

from .level import Level
from .scalar import Number, shares, sqrt

__all__ = ["LinearGamma"]


@dataclass(frozen=True)
class LinearGamma:
    """alpha^2 = 1 - t, sigma^2 = t; ends at exactly zero SNR.

    Source: Chen 2023 (2301.10972), section 2 ("gamma(t) = 1 - t").
    """

    def __call__(self, t: Number) -> Level:
        return Level(t, sqrt(1.0 - t), sqrt(t))

    def at_log_snr(self, log_snr: Number) -> Level:
        return Level.from_log_snr(shares(log_snr)[1], log_snr)

"""The cosine schedule of improved DDPM, continuous."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number, angle, relu, shares, sin, sqrt

__all__ = ["Cosine"]


@dataclass(frozen=True)
class Cosine:
    """alpha(t)^2 = f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) * pi / 2); ends at exactly zero SNR.

    The improved-DDPM table of T steps is this function at (i + 1) / T except for its last entry, which clips beta at .999.

    s: offset that keeps the noise near t = 0 from vanishing too fast, in [0, 1).

    Raises ValueError for s outside [0, 1). Source: Nichol & Dhariwal 2021 (2102.09672), eq. 17.
    """

    s: float = 0.008

    def __post_init__(self) -> None:
        if not 0.0 <= self.s < 1.0:
            raise ValueError(f"Cosine.s is {self.s}; allowed: 0 <= s < 1 (the paper's is 0.008)")

    @property
    def _top(self) -> float:
        """The angle of data: f(t) = sin^2(angle), which, unlike cos^2, is exactly 0 at t = 1."""
        return math.pi / 2 / (1.0 + self.s)

    def __call__(self, t: Number) -> Level:
        a = self._top
        b = a * (1.0 - t)
        # sigma^2 = 1 - sin^2 b / sin^2 a = sin(a + b) sin(a - b) / sin^2 a: no cancellation near t = 0
        return Level(t, sin(b) / math.sin(a), sqrt(relu(sin(a + b) * sin(a * t))) / math.sin(a))

    def at_log_snr(self, log_snr: Number) -> Level:
        level = Level.from_log_snr(0.0, log_snr)
        a = self._top
        # both sides of the angle, since an arc sine near 1 loses half the digits: cos^2 b = cos^2 a + sin^2 a sigma^2
        signal, noise = shares(log_snr)
        b = angle(math.sin(a) * sqrt(signal), sqrt(math.cos(a) ** 2 + math.sin(a) ** 2 * noise))
        return level._replace(t=1.0 - b / a)

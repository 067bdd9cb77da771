"""Chen's cosine schedule: any piece of a power of a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .level import Level
from .scalar import Number, angle, divide, exp, expm1, log, log1p, relu, shares, sin, sqrt, where

__all__ = ["CosineGamma"]

_QUARTER = math.pi / 2


def _cos(u: Number) -> Number:
    """cos(u pi / 2), exactly 0 at u = 1."""
    return sin((1.0 - u) * _QUARTER)


def _log_of(value: Number, rest: Number) -> Number:
    """log(value) where 1 - value is known, too; what is not chosen is harmless, or its slope would be nan."""
    small = value < 0.5
    return where(small, log(where(small, value, 1.0)), log1p(-where(small, 0.0, rest)))


@dataclass(frozen=True)
class CosineGamma:
    """alpha(t)^2 = (v(u) - v(end)) / (v(start) - v(end)), v(u) = cos(u pi / 2)^(2 tau), u = start + t (end - start); ends at
    exactly zero SNR.

    With the defaults alpha = cos(t pi / 2), which is Cosine(s=0). The improved-DDPM schedule with its offset is Cosine.

    Args:
        start: of the piece of the cosine, 0 <= start < end.
        end: of the piece, end <= 1.
        tau: power, > 0; larger falls earlier.

    Raises:
        ValueError: for other values.

    Source: Chen 2023 (2301.10972), algorithm 1 (the released code's end is 0.5, the paper's 1).
    """

    start: float = 0.0
    end: float = 1.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 <= self.start < self.end <= 1.0 and 0 < self.tau < math.inf):
            raise ValueError(
                f"CosineGamma(start={self.start}, end={self.end}, tau={self.tau}); allowed: 0 <= start < end <= 1, tau > 0 "
                "(the paper's are 0, 1, 1)"
            )

    def _fall(self, a: Number, b: Number, gap: Number) -> Number:
        """v(a) - v(b) for b = a + gap, without cancellation: by cos a - cos b = 2 sin((a + b) / 2) sin(gap / 2)."""
        if not isinstance(b, Tensor) and b == 1.0:  # v(1) is exactly 0
            return exp(2.0 * self.tau * log(_cos(a)))
        first, ratio = _cos(a), divide(_cos(b), _cos(a))
        less = divide(2.0 * sin((a + b) * (_QUARTER / 2)) * sin(gap * (_QUARTER / 2)), first)
        return -exp(2.0 * self.tau * log(first)) * expm1(2.0 * self.tau * _log_of(ratio, less))

    def __call__(self, t: Number) -> Level:
        width = self.end - self.start
        u, whole = self.start + t * width, self._fall(self.start, self.end, width)
        signal, noise = self._fall(u, self.end, (1.0 - t) * width), self._fall(self.start, u, t * width)
        return Level(t, sqrt(relu(signal) / whole), sqrt(relu(noise) / whole))

    def at_log_snr(self, log_snr: Number) -> Level:
        first, last = (2.0 * self.tau * log(_cos(u)) for u in (self.start, self.end))
        signal, noise = shares(log_snr)
        # v(u) and 1 - v(u), each a sum of positive terms
        v, rest = signal * exp(first) + noise * exp(last), -signal * expm1(first) - noise * expm1(last)
        log_cos2 = _log_of(v, rest) / self.tau
        u = angle(sqrt(-expm1(log_cos2)), exp(0.5 * log_cos2)) / _QUARTER
        return Level.from_log_snr((u - self.start) / (self.end - self.start), log_snr)

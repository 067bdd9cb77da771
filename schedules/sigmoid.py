"""The sigmoid schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number, expm1, log, shares, sigmoid, sqrt

__all__ = ["Sigmoid"]


def _fall(a: Number, b: Number) -> Number:
    """sigmoid(a) - sigmoid(b) for a >= b, without cancellation: s(a) s(-b) (1 - e^(b - a))."""
    return -sigmoid(a) * sigmoid(-b) * expm1(b - a)


@dataclass(frozen=True)
class Sigmoid:
    """alpha(t)^2 = (s(e) - s(u)) / (s(e) - s(b)), u = (start + t (end - start)) / tau from b = start / tau to e = end / tau, and s
    the logistic function; ends at exactly zero SNR.

    A sigmoid in alpha^2; the "sigmoid" of diffusers is one in beta (see Table.from_diffusers).

    Args:
        start: of the piece of the logistic function, -50 tau < start < end.
        end: of the piece, end < 50 tau.
        tau: temperature, > 0; smaller is steeper.

    Raises:
        ValueError: for other values.

    Source: Chen 2023 (2301.10972), algorithm 1.
    """

    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.tau < math.inf and -50 * self.tau < self.start < self.end < 50 * self.tau):
            raise ValueError(
                f"Sigmoid(start={self.start}, end={self.end}, tau={self.tau}); allowed: tau > 0, start < end, both within 50 tau of 0 "
                "(the paper's are -3, 3, 1)"
            )

    def __call__(self, t: Number) -> Level:
        first, last, width = self.start / self.tau, self.end / self.tau, (self.end - self.start) / self.tau
        u, whole = first + t * width, _fall(last, first)
        # from both ends, so that alpha is exactly 0 at t = 1 and sigma at t = 0; 0 - 0 is 0, and -0 would make the ratio -inf
        signal, noise = (
            0.0 - sigmoid(last) * sigmoid(-u) * expm1((t - 1.0) * width),
            0.0 - sigmoid(u) * sigmoid(-first) * expm1(-t * width),
        )
        return Level(t, sqrt(signal / whole), sqrt(noise / whole))

    def at_log_snr(self, log_snr: Number) -> Level:
        first, last = self.start / self.tau, self.end / self.tau
        signal, noise = shares(log_snr)
        # s(u) and s(-u), each a sum of positive terms
        u = log(signal * sigmoid(first) + noise * sigmoid(last)) - log(
            signal * sigmoid(-first) + noise * sigmoid(-last)
        )
        return Level.from_log_snr((u - first) / (last - first), log_snr)

"""Schedules made of a density of log-SNR: t is the share of training that sees less noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number, angle, cos, exp, log, minimum, sin, where

__all__ = ["Cauchy", "Laplace"]


def _check(name: str, centre: float, width_name: str, width: float) -> None:
    if not (math.isfinite(centre) and 0 < width < math.inf):
        raise ValueError(f"{name}(mean={centre}, {width_name}={width}); allowed: mean finite, {width_name} > 0")


@dataclass(frozen=True)
class Laplace:
    """log-SNR with Laplace density exp(-|log_snr - mean| / scale) / (2 scale) when t is uniform; variance preserving.

    Args:
        mean: log-SNR at t = 1/2.
        scale: of the density, > 0; smaller trains more in the middle.

    Raises:
        ValueError: for scale <= 0.

    Source: Hang & Gu 2024 (2407.03297), table 1. (The "laplace" of diffusers is another curve: see Table.from_diffusers.)
    """

    mean: float = 0.0
    scale: float = 0.5

    def __post_init__(self) -> None:
        _check("Laplace", self.mean, "scale", self.scale)

    def __call__(self, t: Number) -> Level:
        clean, noisy = -log(2.0 * minimum(t, 0.5)), log(2.0 * minimum(1.0 - t, 0.5))
        return Level.from_log_snr(t, self.mean + self.scale * where(t < 0.5, clean, noisy))

    def at_log_snr(self, log_snr: Number) -> Level:
        distance = (log_snr - self.mean) / self.scale
        # the side that is not chosen stays finite, and the chosen one keeps its whole slope
        right, left = where(distance > 0, distance, 0.0), where(distance > 0, 0.0, distance)
        return Level.from_log_snr(where(distance > 0, 0.5 * exp(-right), 1.0 - 0.5 * exp(left)), log_snr)


@dataclass(frozen=True)
class Cauchy:
    """log-SNR with Cauchy density scale / (pi ((log_snr - mean)^2 + scale^2)) when t is uniform; variance preserving.

    Its tails are long: t = 0.001 has log-SNR 159. Beyond about 700 float64 holds data or noise exactly; Truncated cuts earlier.

    Args:
        mean: log-SNR at t = 1/2.
        scale: half width at half height, > 0.

    Raises:
        ValueError: for scale <= 0.

    Source: Hang & Gu 2024 (2407.03297), table 1.
    """

    mean: float = 0.0
    scale: float = 0.5

    def __post_init__(self) -> None:
        _check("Cauchy", self.mean, "scale", self.scale)

    def __call__(self, t: Number) -> Level:
        # the sine of the nearer end: exactly 0 at both
        sine = sin(math.pi * minimum(t, 1.0 - t))
        log_snr = self.mean + self.scale * _over(cos(math.pi * t), sine)
        return Level.from_log_snr(t, log_snr)

    def at_log_snr(self, log_snr: Number) -> Level:
        return Level.from_log_snr(angle(self.scale, log_snr - self.mean) / math.pi, log_snr)


def _over(a: Number, b: Number) -> Number:
    """a / b with b >= 0, signed infinity at b = 0."""
    if isinstance(a, float) and isinstance(b, float) and b == 0:
        return math.copysign(math.inf, a)
    return a / b

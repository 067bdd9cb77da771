"""The cosine schedule shifted for the resolution, by one amount or by two."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from .level import Level
from .scalar import Number, angle, exp, log, maximum, minimum, sin

__all__ = ["CosineShifted"]

# Newton steps to round-off, at the largest slope allowed; a test counts them
_STEPS = 12


@dataclass(frozen=True)
class CosineShifted:
    """log_snr(t) = -2 log tan(pi t / 2) + 2 log(d(t) / size): the noise looks as at resolution d(t), where log d(t) runs from
    `clean` at t = 0 to `noisy` at t = 1; variance preserving.

    With clean = noisy it is the shifted cosine schedule, Shifted(Cosine(s=0), size / noisy).

    Args:
        size: of the images, pixels, > 0.
        noisy: reference resolution at the noisy end, > 0; 32 or 64 in the paper.
        clean: reference resolution at the clean end, within a factor of 16 of `noisy`; null: as `noisy`. In k-diffusion
            `noise_d_low` is noisy and `noise_d_high` is clean.

    Raises:
        ValueError: for other values (beyond a factor of e^pi log-SNR would no longer fall).

    Source: Hoogeboom et al. 2023 (2301.11093), section 2.1 and appendix.
    """

    size: float = 64.0
    noisy: float = 64.0
    clean: float | None = None

    def __post_init__(self) -> None:
        clean = self.noisy if self.clean is None else self.clean
        if not (0 < self.size < math.inf and 0 < self.noisy < math.inf and self.noisy / 16 <= clean <= self.noisy * 16):
            raise ValueError(
                f"CosineShifted(size={self.size}, noisy={self.noisy}, clean={self.clean}); allowed: all > 0, clean within a factor "
                "of 16 of noisy, or null"
            )

    @property
    def _shift(self) -> tuple[float, float]:
        """Shift of log-SNR at t = 0, and what is added to it until t = 1."""
        clean = self.noisy if self.clean is None else self.clean
        return 2.0 * math.log(clean / self.size), 2.0 * math.log(self.noisy / clean)

    def __call__(self, t: Number) -> Level:
        first, slope = self._shift
        # the cosine as a sine from t = 1, exactly 0 there
        log_cot = log(sin((1.0 - t) * math.pi / 2)) - log(sin(t * math.pi / 2))
        return Level.from_log_snr(t, 2.0 * log_cot + first + t * slope)

    def at_log_snr(self, log_snr: Number) -> Level:
        first, slope = self._shift
        t = self._cosine(log_snr - first)
        if slope == 0.0:
            return Level.from_log_snr(t, log_snr)
        # Newton on t = cosine^-1(log_snr - first - slope t); both sides lie in [0, 1] and the difference has slope > 0.1
        with torch.no_grad():
            for _ in range(_STEPS):
                t = minimum(maximum(self._newton(log_snr, t), 0.0), 1.0)
        # the last step carries the slope of t in log_snr
        return Level.from_log_snr(self._newton(log_snr, t), log_snr)

    def _newton(self, log_snr: Number, t: Number) -> Number:
        first, slope = self._shift
        guess = self._cosine(log_snr - first - slope * t)
        return t - (t - guess) / (1.0 - slope / (2.0 * math.pi) * sin(math.pi * guess))

    @staticmethod
    def _cosine(log_snr: Number) -> Number:
        """The t at which -2 log tan(pi t / 2) is log_snr."""
        up, down = exp(0.25 * log_snr), exp(-0.25 * log_snr)
        return angle(down, up) * (2.0 / math.pi)

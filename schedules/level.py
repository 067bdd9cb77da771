"""A noise level: how much of x is data and how much is noise."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from .scalar import Number, both, divide, log, sigmoid, sqrt

__all__ = ["Level"]

# log-SNR at which a limit has been reached to double precision: e^-40 = 4e-18
FINITE = 40.0


class Level(NamedTuple):
    """A noise level: x = alpha * x0 + sigma * eps.

    t: position on the schedule that made it, 0 = data, 1 = noise.
    alpha, sigma: scale of the data and of the noise, >= 0, not both 0.

    Plain floats while sampling, so that nothing waits for a device; tensors of shape (B,), or element-wise
    (B, 1, H, W), in training.
    """

    t: Number
    alpha: Number
    sigma: Number

    @classmethod
    def from_log_snr(cls, t: Number, log_snr: Number) -> Level:
        """The variance-preserving level (alpha^2 + sigma^2 = 1) of a log-SNR; exact at +-inf.

        t: position to record; log_snr: log(alpha^2 / sigma^2), any real number or +-inf.
        """
        return cls(t, sqrt(sigmoid(log_snr)), sqrt(sigmoid(-log_snr)))

    @property
    def log_snr(self) -> Number:
        """log(alpha^2 / sigma^2), the lambda of most papers; +-inf at the ends."""
        return 2.0 * (log(self.alpha) - log(self.sigma))

    @property
    def half_log_snr(self) -> Number:
        """log(alpha / sigma), the clock of DPM-Solver and UniPC (which call it lambda); +-inf at the ends."""
        return log(self.alpha) - log(self.sigma)

    @property
    def ratio(self) -> Number:
        """sigma / alpha, the "sigma" of EDM and k-diffusion; inf at pure noise."""
        return divide(self.sigma, self.alpha)

    @property
    def is_scalar(self) -> bool:
        """Whether the level is the same plain number for every sample and element."""
        return not isinstance(self.alpha, Tensor) and not isinstance(self.sigma, Tensor)

    def like(self, x: Tensor) -> Level:
        """The same level as numbers that multiply x, of shape (B, ...): tensors get x's dtype and device, and (B,) becomes (B, 1, ...).

        Raises:
            ValueError: when a tensor of the level is neither one per sample nor of x's rank.
        """

        def view(name: str, value: Number) -> Number:
            if not isinstance(value, Tensor):
                return value
            if value.ndim != 0 and value.ndim != x.ndim:
                if value.shape != x.shape[:1]:
                    raise ValueError(
                        f"level.{name} has shape {tuple(value.shape)}, x has {tuple(x.shape)}: "
                        f"give one number, one per sample ({len(x)},), or a tensor of x's rank"
                    )
                value = value.view(-1, *[1] * (x.ndim - 1))
            return value.to(x)

        return Level(self.t, view("alpha", self.alpha), view("sigma", self.sigma))

    def rows(self, index: slice | Tensor) -> Level:
        """The level of some samples of a batch; plain numbers stay as they are."""
        return Level(*(v[index] if isinstance(v, Tensor) and has_batch(v) else v for v in self))

    def finite(self) -> Level:
        """The same level with an exact zero replaced by a number so small that every limit is reached to 4e-18."""
        floor = math.exp(-FINITE / 2)
        if isinstance(self.alpha, Tensor) or isinstance(self.sigma, Tensor):
            alpha, sigma = both(self.alpha, self.sigma)
            return Level(self.t, alpha.maximum(floor * sigma), sigma.maximum(floor * alpha))
        return Level(self.t, max(self.alpha, floor * self.sigma), max(self.sigma, floor * self.alpha))


def has_batch(value: Tensor) -> bool:
    """Whether a tensor of a level differs between samples: (B,), or (B, 1, H, W) with B > 1."""
    return value.ndim == 1 or (value.ndim > 1 and len(value) > 1)

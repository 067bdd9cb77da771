"""Schedule wrappers that move a path in log-SNR: a shift for resolution, and a scale of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .level import Level
from .scalar import Number
from .schedule import Schedule, entries

__all__ = ["InputScaled", "Shifted"]


@dataclass(frozen=True)
class Shifted:
    """Any schedule with log_snr'(t) = log_snr(t) - 2 log shift, on the same path: larger images need more noise.

    On RectifiedFlow this is t' = shift t / (1 + (shift - 1) t), the shift of SD3 and FLUX (there shift = e^mu). Training and
    sampling read the same schedule, so a shift is never applied twice. Exact zeros of alpha and sigma stay where they are.

    Args:
        schedule: the schedule to shift.
        shift: > 0; above 1 adds noise at every t. SD3: the square root of the ratio of token counts, 3 for 1024^2.

    Raises:
        ValueError: for shift <= 0.

    Source: Esser et al. 2024 (2403.03206), eq. 23; Hoogeboom et al. 2023 (2301.11093), section 2.1.
    """

    schedule: Schedule
    shift: float = 3.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise ValueError(f"Shifted.shift is {self.shift}; allowed: > 0 (1 changes nothing, SD3's is 3)")

    @property
    def steps(self) -> int | None:
        """The entries of the table within, if it is one."""
        return entries(self.schedule)

    def __call__(self, t: Number) -> Level:
        inner = self.schedule(t)
        return self.schedule.at_log_snr(inner.log_snr - 2.0 * math.log(self.shift))._replace(t=t)

    def at_log_snr(self, log_snr: Number) -> Level:
        level = self.schedule.at_log_snr(log_snr)
        return level._replace(t=self.schedule.at_log_snr(log_snr + 2.0 * math.log(self.shift)).t)


@dataclass(frozen=True)
class InputScaled:
    """Any schedule with the data scaled, x = (scale alpha) x0 + sigma eps: log_snr' = log_snr + 2 log scale.

    alpha^2 + sigma^2 is no longer 1, so give the network `input_std: 1` (the standard deviation of the data), which divides its
    input. Samples are divided by the alpha at which they end. (The abstract's "shift by log b" is that of the amplitude.)

    Args:
        schedule: the schedule around which to scale.
        scale: b > 0; below 1 adds noise at every t. The larger the image, the smaller the best b.

    Raises:
        ValueError: for scale <= 0.

    Source: Chen 2023 (2301.10972), section 2.2.
    """

    schedule: Schedule
    scale: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"InputScaled.scale is {self.scale}; allowed: > 0 (1 changes nothing)")

    @property
    def steps(self) -> int | None:
        """The entries of the table within, if it is one."""
        return entries(self.schedule)

    def __call__(self, t: Number) -> Level:
        level = self.schedule(t)
        return level._replace(alpha=self.scale * level.alpha)

    def at_log_snr(self, log_snr: Number) -> Level:
        level = self.schedule.at_log_snr(log_snr - 2.0 * math.log(self.scale))
        return level._replace(alpha=self.scale * level.alpha)

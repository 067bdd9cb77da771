"""Clocks: the number that tells a backbone which noise level it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ..schedules.level import Level
from ..schedules.scalar import Number

__all__ = ["Clock", "LogSNRClock", "TimeClock"]

# log-SNR beyond which a backbone is told no more: the level is data or noise
EDGE = 20.0


@runtime_checkable
class Clock(Protocol):
    """Maps a level to the number that a backbone was trained on."""

    def __call__(self, level: Level) -> Number:
        """The number at a level; floats to a float, tensors to a tensor of the same shape."""
        ...


@dataclass(frozen=True)
class TimeClock:
    """scale * t: position on the schedule, in the unit of DDPM's step index for scale 1000.

    A change of schedule changes what it means; see LogSNRClock.

    Args:
        scale: what t = 1 becomes.
    """

    scale: float = 1000.0

    def __call__(self, level: Level) -> Number:
        return self.scale * level.t


@dataclass(frozen=True)
class LogSNRClock:
    """scale * log-SNR, cut to log-SNR in [-20, 20]: means the same under every schedule and density.

    Args:
        scale: what log-SNR 1 becomes; -1/8 is EDM's ln(sigma) / 4.

    Source: Kingma et al. 2021 (2107.00630); Karras et al. 2022 (2206.00364), table 1 (c_noise).
    """

    scale: float = 0.25

    def __call__(self, level: Level) -> Number:
        log_snr = level.log_snr
        cut = log_snr.clamp(-EDGE, EDGE) if isinstance(log_snr, Tensor) else min(max(log_snr, -EDGE), EDGE)
        return self.scale * cut

"""Clocks: the number that tells a backbone which noise level it looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.scalar import Number

__all__ = ["Clock", "EntryClock", "LogSNRClock", "SigmaClock", "TimeClock"]

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


@dataclass(frozen=True)
class EntryClock:
    """The index of a table's entry, entries * t - 1 cut to [0, entries - 1], since entry i stands at t = (i + 1) / entries.

    It is DDPM's timestep, a whole number on an entry; between two of them a fraction that is linear in log-SNR, as k-diffusion tells it.

    Args:
        entries: of the table, >= 1.

    Raises:
        ValueError: for entries < 1.

    Source: Ho et al. 2020 (2006.11239); the numbers are those of `samplers.network_time` on a table.
    """

    entries: int = 1000

    def __post_init__(self) -> None:
        if not isinstance(self.entries, int) or isinstance(self.entries, bool) or self.entries < 1:
            raise ValueError(f"EntryClock.entries is {self.entries!r}; allowed: a whole number >= 1")

    def __call__(self, level: Level) -> Number:
        if isinstance(level.t, Tensor):
            index = (level.t * self.entries - 1.0).clamp(0.0, self.entries - 1.0)
            whole = index.round()
            near = max(1e-6, self.entries * torch.finfo(index.dtype).eps)  # t = (i + 1) / T is rounded
            return torch.where((index - whole).abs() < near, whole, index)
        index = min(max(float(level.t) * self.entries - 1.0, 0.0), self.entries - 1.0)
        return float(round(index)) if abs(index - round(index)) < 1e-6 else index


@dataclass(frozen=True)
class SigmaClock:
    """scale * sigma: the time of flow matching, t of the straight path whichever way it is shifted, in thousandths for scale 1000.

    Args:
        scale: what sigma = 1 becomes; 1 on an exploding path is what score networks (NCSN++) are told.

    Source: Esser et al. 2024 (2403.03206); Song et al. 2021 (2011.13456).
    """

    scale: float = 1000.0

    def __call__(self, level: Level) -> Number:
        return self.scale * level.sigma

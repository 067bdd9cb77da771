"""Densities: which noise levels training sees, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .level import Level
from .schedule import Schedule

__all__ = ["Density", "Drawn", "LogNormal", "Uniform"]

# log-SNR beyond which a level is data or noise to working precision; infinite tails are cut here
EDGE = 20.0


class Drawn(NamedTuple):
    """Levels drawn for training, and the factor on each loss.

    level: of tensors (B,); weight: tensor (B,) or 1.0, what makes the expected loss that of another density.
    """

    level: Level
    weight: Tensor | float = 1.0


@runtime_checkable
class Density(Protocol):
    """A density of training noise levels, as its quantile function."""

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        """Levels at the quantiles u, float64 (B,) in (0, 1); u uniform gives the density, u stratified gives strata of it."""
        ...


@dataclass(frozen=True)
class Uniform:
    """t uniform on [0, 1]: every time of the schedule equally often. Source: DDPM (2006.11239), algorithm 1."""

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        return Drawn(schedule(u))


@dataclass(frozen=True)
class LogNormal:
    """ln(sigma / alpha) normal: in log-SNR, N(-2 mean, 4 std^2), on any schedule, cut to what the schedule reaches.

    Args:
        mean: of ln(sigma / alpha); EDM -1.2, EDM2 -0.4.
        std: of ln(sigma / alpha), > 0; EDM 1.2, EDM2 1.0.

    Raises:
        ValueError: for std <= 0.

    Source: Karras et al. 2022 (2206.00364), table 1.
    """

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        if not (0 < self.std < math.inf and math.isfinite(self.mean)):
            raise ValueError(
                f"LogNormal(mean={self.mean}, std={self.std}); allowed: finite, std > 0 (EDM's are -1.2 and 1.2)"
            )

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        log_ratio = self.mean + self.std * math.sqrt(2) * torch.erfinv(2 * u - 1)
        low, high = (float(schedule(t).log_snr) for t in (1.0, 0.0))
        return Drawn(schedule.at_log_snr((-2 * log_ratio).clamp(max(low, -EDGE), min(high, EDGE))))

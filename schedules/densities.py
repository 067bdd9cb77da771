"""Densities: which noise levels training sees, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .density import EDGE, Drawn, count_of, log_snr_density
from .importance import Laplace
from .level import Level
from .schedule import Schedule

__all__ = ["LogNormal", "LogSNRImportance", "LogitNormal", "Uniform", "UniformEntries"]


def _at(schedule: Schedule, log_snr: Tensor) -> Level:
    """The levels of a schedule at log-SNR, cut to what the schedule reaches and to the edge."""
    low, high = (float(schedule(t).log_snr) for t in (1.0, 0.0))
    return schedule.at_log_snr(log_snr.clamp(max(low, -EDGE), min(high, EDGE)))


def _normal(u: Tensor) -> Tensor:
    """The quantiles of the standard normal."""
    return math.sqrt(2) * torch.erfinv(2 * u - 1)


@dataclass(frozen=True)
class Uniform:
    """t uniform on [0, 1]: every time of the schedule equally often. Source: DDPM (2006.11239), algorithm 1."""

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        return Drawn(schedule(u))


@dataclass(frozen=True)
class UniformEntries:
    """t uniform on 1 / steps, 2 / steps, ..., 1: the entries of a table equally often, as discrete models are trained.

    Args:
        steps: how many, >= 1; null: as many as the schedule's table has.

    Raises:
        ValueError: for steps < 1; when called, without steps on a schedule that is no table.

    Source: DDPM (2006.11239), algorithm 1.
    """

    steps: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise ValueError(f"UniformEntries.steps is {self.steps!r}; allowed: a whole number >= 1, or null")

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        count = self.steps or count_of(schedule, "UniformEntries")
        return Drawn(schedule(((u * count).floor().clamp(max=count - 1) + 1) / count))


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
        return Drawn(_at(schedule, -2 * (self.mean + self.std * _normal(u))))


@dataclass(frozen=True)
class LogitNormal:
    """t = sigmoid(n) with n normal: the middle times of a schedule more often. On RectifiedFlow it is LogNormal; on a Shifted
    schedule the shift applies on top, as in SD3.

    Args:
        mean: of logit t; above 0 favours noise.
        std: of logit t, > 0.

    Raises:
        ValueError: for std <= 0.

    Source: Esser et al. 2024 (2403.03206), eq. 19.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.std < math.inf and math.isfinite(self.mean)):
            raise ValueError(
                f"LogitNormal(mean={self.mean}, std={self.std}); allowed: finite, std > 0 (SD3's are 0, 1)"
            )

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        return Drawn(schedule(torch.sigmoid(self.mean + self.std * _normal(u))))


@dataclass(frozen=True)
class LogSNRImportance:
    """Log-SNR as on another schedule with t uniform: draw as Laplace does, walk on any path.

    Args:
        like: the schedule whose density of log-SNR is drawn, such as Laplace, Cauchy or Cosine; cut to [-20, 20] and to what the
            model's own schedule reaches.
        unbiased: multiply the loss by p(log-SNR) of the model's own schedule over that of `like`: the objective stays that of
            uniform t, only its variance changes. The paper deliberately does not.

    Source: Hang & Gu 2024 (2407.03297), section 3.
    """

    like: Schedule = Laplace()  # noqa: RUF009 - frozen, so one default serves all
    unbiased: bool = False

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        log_snr = self.like(u).log_snr
        assert isinstance(log_snr, Tensor)
        level = _at(schedule, log_snr)
        if not self.unbiased:
            return Drawn(level)
        at = level.log_snr
        assert isinstance(at, Tensor)
        return Drawn(level, log_snr_density(schedule, at) / log_snr_density(self.like, at))

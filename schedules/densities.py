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


def _range(schedule: Schedule) -> tuple[float, float]:
    """The log-SNR that a schedule reaches, cut to the edge."""
    low, high = (float(schedule(t).log_snr) for t in (1.0, 0.0))
    return max(low, -EDGE), min(high, EDGE)


def _within(schedule: Schedule, log_snr: Tensor) -> Level:
    """The levels of a schedule at log-SNR in its range, but for round-off."""
    return schedule.at_log_snr(log_snr.clamp(*_range(schedule)))


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
        if self.steps is not None and (
            not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1
        ):
            raise ValueError(f"UniformEntries.steps is {self.steps!r}; allowed: a whole number >= 1, or null")

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        count = self.steps or count_of(schedule, "UniformEntries")
        return Drawn(schedule(((u * count).floor().clamp(max=count - 1) + 1) / count))


@dataclass(frozen=True)
class LogNormal:
    """ln(sigma / alpha) normal: in log-SNR, N(-2 mean, 4 std^2), on any schedule, of it the part that the schedule reaches.

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
        # the quantiles of the normal, truncated to the range: no level gathers what lies beyond it
        first, last = (self._share(v) for v in reversed(_range(schedule)))
        return Drawn(_within(schedule, -2 * (self.mean + self.std * _normal(first + u * (last - first)))))

    def _share(self, log_snr: float) -> float:
        """The share of the normal with less noise."""
        return 0.5 * math.erfc((self.mean + 0.5 * log_snr) / self.std / math.sqrt(2))


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
        like: the schedule whose density of log-SNR is drawn, such as Laplace, Cauchy or Cosine; of it the part in [-20, 20] that the
            model's own schedule reaches.
        unbiased: multiply the loss by p(log-SNR) of the model's own schedule over that of `like`: the expected loss is that of
            uniform t (in [-20, 20]). Its variance is not bounded where `like` has the thinner tails. The paper deliberately does not.

    Raises:
        ValueError: when called, for a schedule that `like` does not meet, or, if unbiased, does not cover.

    Source: Hang & Gu 2024 (2407.03297), section 3.
    """

    like: Schedule = Laplace()  # noqa: RUF009 - frozen, so one default serves all
    unbiased: bool = False

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        (low, high), (low_like, high_like) = _range(schedule), _range(self.like)
        if self.unbiased and (low_like > low + 1e-9 or high_like < high - 1e-9):
            raise ValueError(
                f"LogSNRImportance(unbiased=True): {type(self.like).__name__} reaches log-SNR {low_like:.4g} to {high_like:.4g}, the "
                f"model's schedule {low:.4g} to {high:.4g}, so no factor makes up for what is never drawn; choose a `like` that covers it"
            )
        low, high = max(low, low_like), min(high, high_like)
        if low >= high:
            raise ValueError(f"LogSNRImportance: {self.like} and {type(schedule).__name__} have no log-SNR in common")
        # t of `like`, uniform over the part of it that is used: no level gathers what lies beyond
        first, last = (float(self.like.at_log_snr(v).t) for v in (high, low))
        log_snr = self.like(first + u * (last - first)).log_snr
        assert isinstance(log_snr, Tensor)
        level = _within(schedule, log_snr)
        if not self.unbiased:
            return Drawn(level)
        at = level.log_snr
        assert isinstance(at, Tensor)
        return Drawn(level, (last - first) * log_snr_density(schedule, at) / log_snr_density(self.like, at))

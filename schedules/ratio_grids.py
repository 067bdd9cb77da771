"""Grids in the noise itself: sigma / alpha or log-SNR."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .grid import check_steps, to_data
from .level import Level
from .schedule import Schedule, first_t

__all__ = ["Exponential", "Karras", "LogSNRUniform", "exponential", "karras", "log_snr_uniform"]


def _span(schedule: Schedule, low: float | None, high: float | None, name: str) -> tuple[float, float]:
    """The range of sigma / alpha: as given, or all that a network was trained on within EDM's 0.002 to 80."""
    top, bottom = float(schedule(1.0).ratio), float(schedule(first_t(schedule)).ratio)
    first, last = min(80.0, top) if high is None else high, max(0.002, bottom) if low is None else low
    if first > top * (1 + 1e-9) or last < bottom * (1 - 1e-9) or not 0 < last < first:
        raise ValueError(
            f"{name}: sigma / alpha would run from {last:.6g} (low={low}) to {first:.6g} (high={high}), that of {type(schedule).__name__} "
            f"runs from {bottom:.6g} to {top:.6g}; choose both within, low below high (null: the schedule's own, within 0.002 and 80)"
        )
    return last, first


def _check_span(name: str, low: float | None, high: float | None) -> None:
    if not 0 < (1e-300 if low is None else low) < (1e300 if high is None else high) < math.inf:
        raise ValueError(f"{name}(low={low}, high={high}); allowed: 0 < low < high < inf, or null")


def _at_ratios(schedule: Schedule, ratios: Sequence[float]) -> list[Level]:
    return to_data(schedule, [schedule.at_log_snr(-2.0 * math.log(g)) for g in ratios])


@dataclass(frozen=True)
class Karras:
    """sigma / alpha uniform in its rho-th root, from high to low, then data.

    Args:
        low: the last sigma / alpha before data, > 0; null: the schedule's own, at least 0.002.
        high: the first sigma / alpha, > low; null: the schedule's own, at most 80.
        rho: 0.1 to 1000; larger puts more steps near the data.

    Raises:
        ValueError: for other values, and, when called, where the schedule does not reach `high` or `low`.

    Source: Karras et al. 2022 (2206.00364), eq. 5.
    """

    low: float | None = None
    high: float | None = None
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_span("Karras", self.low, self.high)
        if not 0.1 <= self.rho <= 1000:
            raise ValueError(f"Karras.rho is {self.rho}; allowed: 0.1 to 1000 (the paper's is 7)")

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        check_steps(steps)
        low, high = _span(schedule, self.low, self.high, "Karras")
        first, last = high ** (1 / self.rho), low ** (1 / self.rho)
        # a mean of the two, so that both ends are exact however large the powers
        shares = [i / max(steps - 1, 1) for i in range(steps)]
        return _at_ratios(schedule, [((1.0 - s) * first + s * last) ** self.rho for s in shares])


@dataclass(frozen=True)
class Exponential:
    """sigma / alpha uniform in its logarithm, from high to low, then data.

    Args:
        low: the last sigma / alpha before data, > 0; null: the schedule's own, at least 0.002.
        high: the first sigma / alpha, > low; null: the schedule's own, at most 80.

    Raises:
        ValueError: for other values, and, when called, where the schedule does not reach `high` or `low`.

    Source: Zhang & Chen 2023 (2204.13902); "exponential" of k-diffusion.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        _check_span("Exponential", self.low, self.high)

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        check_steps(steps)
        low, high = _span(schedule, self.low, self.high, "Exponential")
        return _at_ratios(schedule, [high * (low / high) ** (i / max(steps - 1, 1)) for i in range(steps)])


@dataclass(frozen=True)
class LogSNRUniform:
    """Log-SNR uniform from `low` to `high`, then data: Exponential, with its range in log-SNR.

    Args:
        low: log-SNR of the first level; null: the schedule's own, at least -8.77 (sigma / alpha 80).
        high: log-SNR of the last level before data, > low; null: the schedule's own, at most 12.4 (sigma / alpha 0.002).

    Raises:
        ValueError: for low >= high, and, when called, where the schedule does not reach that far.

    Source: Lu et al. 2022 (2206.00927), section 3.4 ("uniform logSNR").
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (
            not -math.inf
            < (-1e300 if self.low is None else self.low)
            < (1e300 if self.high is None else self.high)
            < math.inf
        ):
            raise ValueError(f"LogSNRUniform(low={self.low}, high={self.high}); allowed: finite, low < high, or null")

    def __call__(self, schedule: Schedule, steps: int) -> list[Level]:
        check_steps(steps)
        top, bottom = float(schedule(1.0).log_snr), float(schedule(first_t(schedule)).log_snr)
        low = max(-2.0 * math.log(80.0), top) if self.low is None else self.low
        high = min(-2.0 * math.log(0.002), bottom) if self.high is None else self.high
        if low < top - 1e-9 or high > bottom + 1e-9 or not low < high:
            raise ValueError(
                f"LogSNRUniform: log-SNR would run from {low:.6g} (low={self.low}) to {high:.6g} (high={self.high}), that of "
                f"{type(schedule).__name__} runs from {top:.6g} to {bottom:.6g}; choose both within, low below high"
            )
        shares = [i / max(steps - 1, 1) for i in range(steps)]
        return to_data(schedule, [schedule.at_log_snr((1.0 - s) * low + s * high) for s in shares])


karras = Karras()
exponential = Exponential()
log_snr_uniform = LogSNRUniform()

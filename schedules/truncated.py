"""A schedule wrapper: only a range of log-SNR of the path is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from .level import Level
from .scalar import Number
from .schedule import Schedule

__all__ = ["Truncated"]


@dataclass(frozen=True)
class Truncated:
    """Any schedule, cut to log-SNR in [log_snr_min, log_snr_max] and stretched to t in [0, 1] again. A table within is then one no
    more: its entries lie at other t.

    schedule: the schedule to cut. log_snr_min, log_snr_max: the noisy and the clean end; -inf and inf leave that end alone.

    Raises ValueError unless log_snr_min < log_snr_max, and where the schedule does not reach that far.
    """

    schedule: Schedule
    log_snr_min: float = -math.inf
    log_snr_max: float = math.inf

    def __post_init__(self) -> None:
        if not self.log_snr_min < self.log_snr_max:
            raise ValueError(
                f"Truncated: log_snr_min is {self.log_snr_min}, log_snr_max {self.log_snr_max}; allowed: min < max"
            )
        low, high = self._ends
        if low < -1e-9 or high > 1 + 1e-9:
            raise ValueError(
                f"Truncated: [{self.log_snr_min}, {self.log_snr_max}] is outside {type(self.schedule).__name__}, whose log-SNR "
                f"runs from {self.schedule(1.0).log_snr:.6g} to {self.schedule(0.0).log_snr:.6g}"
            )

    @cached_property
    def _ends(self) -> tuple[float, float]:
        low = float(self.schedule.at_log_snr(self.log_snr_max).t) if self.log_snr_max < math.inf else 0.0
        high = float(self.schedule.at_log_snr(self.log_snr_min).t) if self.log_snr_min > -math.inf else 1.0
        return low, high

    def __call__(self, t: Number) -> Level:
        low, high = self._ends
        return self.schedule(low + t * (high - low))._replace(t=t)

    def at_log_snr(self, log_snr: Number) -> Level:
        low, high = self._ends
        level = self.schedule.at_log_snr(log_snr)
        return level._replace(t=(level.t - low) / (high - low))

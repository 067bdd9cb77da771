"""A schedule wrapper: no signal is left at the end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from .level import Level
from .scalar import Number, log, relu, sqrt, where
from .schedule import Schedule, entries, first_t

__all__ = ["ZeroTerminalSNR"]


@dataclass(frozen=True)
class ZeroTerminalSNR:
    """Any variance-preserving schedule, rescaled so that alpha(1) = 0 exactly and the clean end stays as it was.

    alpha'(t) = (alpha(t) - alpha(1)) * alpha(t0) / (alpha(t0) - alpha(1)), sigma' = sqrt(1 - alpha'^2), with t0 the clean end: 0, or
    the first entry of a table. Rescaling twice changes nothing. Needs a network that predicts v, x0 or a flow: an eps network
    has no information at zero SNR.

    schedule: the schedule to rescale, variance preserving (alpha^2 + sigma^2 = 1).

    Raises ValueError when `schedule` is not variance preserving. Source: Lin et al. 2024 (2305.08891), algorithm 1.
    """

    schedule: Schedule

    def __post_init__(self) -> None:
        for t in (0.25, 0.5, 1.0):
            level = self.schedule(t)
            power = float(level.alpha**2 + level.sigma**2)
            if abs(power - 1.0) > 1e-9:
                raise ValueError(
                    f"ZeroTerminalSNR({type(self.schedule).__name__}): alpha^2 + sigma^2 is {power:.6g} at t = {t}; allowed: "
                    "variance-preserving schedules (1 everywhere). RectifiedFlow ends at zero SNR already; scale or "
                    "shift around ZeroTerminalSNR, not within it"
                )

    @property
    def steps(self) -> int | None:
        """The entries of the table within, if it is one."""
        return entries(self.schedule)

    def __call__(self, t: Number) -> Level:
        first, last = self._ends
        inner = self.schedule(t)
        scale = first / (first - last)
        alpha = relu((inner.alpha - last) * scale)
        # 1 - alpha' from sigma, so that nothing cancels near data: 1 - alpha = sigma^2 / (1 + alpha)
        rest = scale * inner.sigma**2 / (1.0 + inner.alpha) - last * (1.0 - first) / (first - last)
        clean = t <= first_t(self)
        return Level(t, where(clean, inner.alpha, alpha), where(clean, inner.sigma, sqrt(relu(rest * (1.0 + alpha)))))

    def at_log_snr(self, log_snr: Number) -> Level:
        first, last = self._ends
        level = Level.from_log_snr(0.0, log_snr)
        scale = first / (first - last)
        inner = level.alpha / scale + last
        # 1 - inner alpha, again without cancellation
        rest = (level.sigma**2 / (1.0 + level.alpha) + last * (1.0 - first) / (first - last)) / scale
        power = relu(rest * (1.0 + inner))
        clean = log_snr >= self.schedule(first_t(self)).log_snr
        return level._replace(t=self.schedule.at_log_snr(where(clean, log_snr, 2.0 * log(inner) - log(power))).t)

    @cached_property
    def _ends(self) -> tuple[float, float]:
        """alpha of the schedule at both ends."""
        return float(self.schedule(first_t(self)).alpha), float(self.schedule(1.0).alpha)

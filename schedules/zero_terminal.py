"""A schedule wrapper: no signal is left at the end."""

from __future__ import annotations

from dataclasses import dataclass

from .level import Level
from .scalar import Number, log, relu, sqrt
from .schedule import Schedule

__all__ = ["ZeroTerminalSNR"]


@dataclass(frozen=True)
class ZeroTerminalSNR:
    """Any variance-preserving schedule, rescaled so that alpha(1) = 0 exactly and the clean end stays as it was.

    alpha'(t) = (alpha(t) - alpha(1)) * alpha(0) / (alpha(0) - alpha(1)), sigma' = sqrt(1 - alpha'^2). Rescaling twice changes
    nothing. Needs a network that predicts v, x0 or a flow: an eps network has no information at zero SNR.

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
                    "variance-preserving schedules (1 everywhere). RectifiedFlow needs no rescale: it ends at zero SNR already"
                )

    def __call__(self, t: Number) -> Level:
        first, last = float(self.schedule(0.0).alpha), float(self.schedule(1.0).alpha)
        inner = self.schedule(t)
        scale = first / (first - last)
        alpha = (inner.alpha - last) * scale
        # 1 - alpha' from sigma, so that nothing cancels near data: 1 - alpha = sigma^2 / (1 + alpha)
        rest = scale * inner.sigma**2 / (1.0 + inner.alpha) - last * (1.0 - first) / (first - last)
        return Level(t, alpha, sqrt(rest * (1.0 + alpha)))

    def at_log_snr(self, log_snr: Number) -> Level:
        first, last = float(self.schedule(0.0).alpha), float(self.schedule(1.0).alpha)
        level = Level.from_log_snr(0.0, log_snr)
        scale = first / (first - last)
        inner = level.alpha / scale + last
        # 1 - inner alpha, again without cancellation
        rest = (level.sigma**2 / (1.0 + level.alpha) + last * (1.0 - first) / (first - last)) / scale
        power = relu(rest * (1.0 + inner))
        return level._replace(t=self.schedule.at_log_snr(2.0 * log(inner) - log(power)).t)

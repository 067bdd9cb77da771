"""The paths that orders are measured on: a schedule cut to a finite clean end, uniform steps in its t, and the exact ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...schedules import (
    Cosine,
    Level,
    LinearBeta,
    Prediction,
    RectifiedFlow,
    Schedule,
    Truncated,
    VarianceExploding,
    ZeroTerminalSNR,
)
from .truth import Mixture, gaussian_end, mixture_end

__all__ = ["DATA", "GAUSSIAN", "MIXTURE", "PATHS", "Both", "Path"]

MIXTURE = Mixture()
GAUSSIAN = Mixture((1.0,), (0.3,), (0.5,))
DATA = ("mixture", "gaussian")

# where trajectories start, in standard deviations of the noise
_STARTS = (-1.1, -0.3, 0.2, 0.9)
# e^3 = 20.1 and e^-4 = 0.018 in sigma / alpha
_NOISY, _CLEAN = -6.0, 8.0


@dataclass(frozen=True)
class Path:
    """A path, cut to log-SNR 8 at its clean end, where every method is asked at finite numbers.

    Args:
        about: what it is, in words.
        schedule: t = 1 is where it starts, t = 0 where it ends.
    """

    about: str
    schedule: Schedule

    def levels(self, steps: int) -> list[Level]:
        """steps + 1 levels, from noise to the clean end, uniform in t."""
        return [self.schedule(1.0 - i / steps) for i in range(steps + 1)]

    @property
    def start(self) -> Tensor:
        """x at the first level: four points for the mixture, the same four for the Gaussian."""
        top, noise = self.schedule(1.0), torch.tensor(_STARTS * 2, dtype=torch.float64)
        return top.sigma * noise + 0.2 * top.alpha

    @property
    def exact(self) -> Tensor:
        """z = x / alpha at the last level."""
        top, bottom = self.schedule(1.0), self.schedule(0.0)
        first, last = float(top.ratio), float(bottom.ratio)
        z = self.start / (top.alpha or top.sigma)
        half = len(_STARTS)
        return torch.cat([
            mixture_end(z[:half], first, last, MIXTURE), gaussian_end(z[half:], first, last, GAUSSIAN.stds[0], GAUSSIAN.means[0]),
        ])  # fmt: skip


class Both:
    """The exact denoiser of a batch whose first half is the mixture's and whose second half is the Gaussian's; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        self.calls += 1
        half = len(x) // 2
        at = level.like(x)
        below, above = at.rows(slice(half)), at.rows(slice(half, None))
        x0 = torch.cat([MIXTURE.x0(x[:half], below), GAUSSIAN.x0(x[half:], above)])
        return Prediction.pair(x0, (x - at.alpha * x0) / at.sigma)


PATHS: dict[str, Path] = {
    "vp": Path("VP cosine, log-SNR -6 to 8", Truncated(Cosine(), _NOISY, _CLEAN)),
    "flow": Path("rectified flow, log-SNR -6 to 8", Truncated(RectifiedFlow(), _NOISY, _CLEAN)),
    "ve": Path("VE, sigma 20 to 0.02, log-uniform", VarianceExploding(0.02, 20.0, math.inf)),
    "zero": Path(
        "zero-terminal linear beta, alpha = 0 to log-SNR 8",
        Truncated(ZeroTerminalSNR(LinearBeta()), log_snr_max=_CLEAN),
    ),
}

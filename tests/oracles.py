"""Closed-form truths: denoisers of Gaussians and Gaussian mixtures, and the paths they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.schedules import EDM, X0, Eps, Flow, Level, Prediction, Row, V, target

ROWS: tuple[Row, ...] = (Eps(), X0(), V(), Flow(), EDM(0.5))


@dataclass(frozen=True)
class Variance:
    """A variance-exploding schedule for tests: alpha = 1, sigma / alpha log-uniform in t."""

    low: float = 0.02
    high: float = 20.0

    def __call__(self, t):
        return self.at_log_snr(-2 * (math.log(self.low) + t * math.log(self.high / self.low)))

    def at_log_snr(self, log_snr):
        g = math.exp(-log_snr / 2)
        return Level((math.log(g) - math.log(self.low)) / math.log(self.high / self.low), 1.0, g)


@dataclass(frozen=True)
class Mixture:
    """Data of a one-dimensional Gaussian mixture, element-wise; the exact denoiser, as a pair or as the output of a row."""

    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-1.0, 0.8)
    stds: tuple[float, ...] = (0.4, 0.3)
    row: Row | None = None

    def x0(self, x: Tensor, level: Level) -> Tensor:
        a, s = level.alpha, level.sigma
        logs, means = [], []
        for w, m, d in zip(self.weights, self.means, self.stds, strict=True):
            variance = a * a * d * d + s * s
            logs.append(math.log(w) - 0.5 * torch.log(variance + 0 * x) - 0.5 * (x - a * m) ** 2 / variance)
            means.append(m + a * d * d / variance * (x - a * m))
        return (torch.softmax(torch.stack(logs), 0) * torch.stack(means)).sum(0)

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        x0 = self.x0(x, level)
        eps = (x - level.alpha * x0) / level.sigma
        if self.row is None:
            return Prediction.pair(x0, eps)
        return Prediction(x, level, target(self.row, level, x0, eps), self.row)


def gaussian_end(z: Tensor, start: float, end: float, std: float, mean: float = 0.0) -> Tensor:
    """Where the probability-flow ODE takes z = x / alpha from sigma / alpha = start to end, for data N(mean, std^2)."""
    return mean + (z - mean) * math.sqrt((std**2 + end**2) / (std**2 + start**2))


def log_grid(high: float, low: float, steps: int, alpha: float = 1.0) -> list[Level]:
    """steps + 1 levels log-uniform in sigma / alpha."""
    ratios = [high * (low / high) ** (i / steps) for i in range(steps + 1)]
    return [Level(i / steps, alpha, alpha * g) for i, g in enumerate(ratios)]


def fitted_order(errors: Sequence[float], steps: Sequence[int]) -> float:
    """The slope of log error against log steps, between the last two."""
    return math.log(errors[-2] / errors[-1]) / math.log(steps[-1] / steps[-2])

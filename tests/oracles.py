"""Closed-form truths: denoisers of Gaussians and Gaussian mixtures, and the paths they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.schedules import (
    EDM,
    X0,
    BetaTable,
    Cauchy,
    Cosine,
    CosineGamma,
    CosineShifted,
    Drawn,
    Eps,
    Flow,
    InputScaled,
    Laplace,
    Level,
    LinearBeta,
    LinearGamma,
    Prediction,
    RectifiedFlow,
    Row,
    ScaledLinearBeta,
    Shifted,
    Sigmoid,
    Table,
    Truncated,
    V,
    VarianceExploding,
    ZeroTerminalSNR,
    target,
)  # fmt: skip

ROWS: tuple[Row, ...] = (Eps(), X0(), V(), Flow(), EDM(0.5))

# one of each, with arguments that bend them
SCHEDULES = [
    Cosine(),
    Cosine(s=0.0),
    LinearBeta(),
    RectifiedFlow(),
    ZeroTerminalSNR(LinearBeta()),
    ZeroTerminalSNR(LinearBeta(0.5, 8.0)),
    Truncated(Cosine(), log_snr_min=-20.0),
    Truncated(RectifiedFlow(), log_snr_min=-12.0, log_snr_max=9.0),
    ScaledLinearBeta(),
    ZeroTerminalSNR(ScaledLinearBeta()),
    LinearGamma(),
    Sigmoid(),
    Sigmoid(-3.0, 3.0, 0.5),
    Sigmoid(0.0, 3.0, 0.3),
    Sigmoid(-3.0, 3.0, 0.1),
    CosineGamma(),
    CosineGamma(0.2, 1.0, 2.0),
    CosineGamma(0.0, 0.5, 1.0),
    CosineGamma(0.1, 0.9, 0.3),
    Laplace(),
    Laplace(-1.0, 2.0),
    Cauchy(),
    Cauchy(2.0, 1.5),
    CosineShifted(256.0, 64.0),
    CosineShifted(256.0, 32.0, 64.0),
    CosineShifted(64.0, 256.0, 16.0),
    VarianceExploding(),
    VarianceExploding(0.0, 80.0, 7.0),
    VarianceExploding(0.01, 50.0, math.inf),
    BetaTable("linear"),
    BetaTable("scaled_linear"),
    BetaTable("cosine"),
    BetaTable("sigmoid", 50),
    ZeroTerminalSNR(BetaTable("scaled_linear")),
    Table([6.0, 1.0, -2.0, -math.inf]),
    Table([6.0, 1.0, -2.0], path="straight"),
    Table([6.0, 1.0, -2.0], path="exploding"),
    Shifted(RectifiedFlow(), 3.0),
    Shifted(Cosine(), 0.5),
    Shifted(LinearBeta(), 2.0),
    Shifted(BetaTable("scaled_linear"), 3.0),
    InputScaled(Cosine(), 0.5),
    InputScaled(RectifiedFlow(), 2.0),
    Shifted(InputScaled(ZeroTerminalSNR(LinearBeta()), 0.7), 1.5),
]


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


@dataclass(frozen=True)
class Spy:
    """A learning density that draws t from what it knows, multiplies losses by a factor, and remembers what it is told."""

    factor: float = 3.0

    def __call__(self, u, schedule):
        return self.draw(self.start(schedule), u, schedule)

    def start(self, schedule):
        return torch.zeros(1, dtype=torch.float64)

    def draw(self, known, u, schedule):
        return Drawn(schedule(0.2 + 0.1 * len(known) + 0 * u), torch.full_like(u, self.factor))

    def learn(self, known, t, loss):
        assert bool((t - (0.2 + 0.1 * len(known))).abs().max() < 1e-12)
        return torch.cat([known, loss.mean()[None]])


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

"""Closed-form truths: denoisers of Gaussians and Gaussian mixtures, and the paths they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

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
)  # fmt: skip
from sfumato.tools.orders.truth import Mixture, gaussian_end, mixture_end

__all__ = [
    "ROWS",
    "SCHEDULES",
    "Mixture",
    "Spy",
    "fitted_order",
    "gaussian_end",
    "log_grid",
    "mixture_end",
]

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


def log_grid(high: float, low: float, steps: int, alpha: float = 1.0) -> list[Level]:
    """steps + 1 levels log-uniform in sigma / alpha."""
    ratios = [high * (low / high) ** (i / steps) for i in range(steps + 1)]
    return [Level(i / steps, alpha, alpha * g) for i, g in enumerate(ratios)]


def fitted_order(errors: Sequence[float], steps: Sequence[int]) -> float:
    """The slope of log error against log steps, between the last two."""
    return math.log(errors[-2] / errors[-1]) / math.log(steps[-1] / steps[-2])

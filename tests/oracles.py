"""Closed-form truths: denoisers of Gaussians and Gaussian mixtures, and the paths they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sfumato.guidance import Branch, Field
from sfumato.samplers import trajectory
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
)  # fmt: skip
from sfumato.schedules.scalar import log
from sfumato.tools.orders.truth import Mixture, gaussian_end, mixture_end

__all__ = [
    "GAUSSIANS",
    "MIXTURES",
    "ROWS",
    "SCHEDULES",
    "Mixture",
    "Net",
    "Spy",
    "branches",
    "fitted_order",
    "gaussian_end",
    "guided",
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


# (weight, mean, standard deviation) of the components; first under a condition m, which moves the mean, then without one
GAUSSIANS = ((1.0, 0.0, 1.0),), ((1.0, 0.0, math.sqrt(2)),)
MIXTURES = ((0.4, -0.5, 0.3), (0.6, 0.7, 0.2)), ((0.3, -1.2, 0.5), (0.7, 0.9, 0.4))


class Net:
    """An exact conditional network, element-wise, regular at both ends: data under the condition m and, where m is nan, without one.

    `data` as GAUSSIANS, of the specification's table. row: of its output; None: a pair. Counts its calls, and how many samples each had.
    """

    def __init__(self, row=None, data=GAUSSIANS):
        self.row, self.data, self.calls, self.sizes = row, data, 0, []

    def believes(self, x, level, m):
        """(x0, eps) under m, a number."""
        null = math.isnan(m)
        a, s = level.alpha, level.sigma
        parts = [(w, mean if null else m + mean, d) for w, mean, d in self.data[null]]
        apart = [(x - a * mean, a * a * d * d + s * s) for _, mean, d in parts]
        x0 = [mean + a * d * d / v * u for (_, mean, d), (u, v) in zip(parts, apart, strict=True)]
        eps = [s / v * u for u, v in apart]
        if len(parts) == 1:
            return x0[0], eps[0]
        weights = [math.log(w) - 0.5 * log(v) - u * u / (2 * v) for (w, _, _), (u, v) in zip(parts, apart, strict=True)]
        share = torch.softmax(torch.stack(weights), 0)
        return (share * torch.stack(x0)).sum(0), (share * torch.stack(eps)).sum(0)

    def __call__(self, x, level, condition):
        self.calls += 1
        self.sizes.append(len(x))
        at, m = level.like(x), condition["m"].view(-1, *[1] * (x.ndim - 1)).to(x)
        null, zero = m.isnan(), torch.where(m.isnan(), 0.0, m)
        cond = self.believes(x - at.alpha * zero, at, 0.0)  # moved by m
        x0, eps = (
            torch.where(null, u, v)
            for u, v in zip(self.believes(x, at, math.nan), (cond[0] + zero, cond[1]), strict=True)
        )
        if self.row is None:
            return Prediction.pair(x0, eps)
        p, q = self.row(at)
        return Prediction(x, level, p * x0 + q * eps, self.row)


def branches(net, n, m=0.0, device=None):
    """ "cond" under m, one number or n of them, and "ref" without a condition."""
    cond, null = (torch.as_tensor(v, dtype=torch.float64, device=device).expand(n).clone() for v in (m, math.nan))
    return {"cond": Branch(net, {"m": cond}), "ref": Branch(net, {"m": null})}


def guided(sampler, rule, levels, x, net=None, noise=None, *, m=0.0, written=False, steps=None, **more):
    """Walk x under a rule: (the end, the field). written: as written; steps: a list that gets every step; more: further branches."""
    field = Field({**branches(net or Net(), len(x), m, x.device), **more}, rule, len(x))
    with torch.no_grad():
        for step in trajectory(sampler, field, levels, x, noise, as_written=written):
            last = step.x
            if steps is not None:
                steps.append(step)
    return last, field

"""Closed-form truths in one dimension: the denoiser of a Gaussian mixture, and where the probability-flow ODE ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...schedules import Level, Prediction, Row, target
from ...schedules.scalar import log

__all__ = ["Mixture", "gaussian_end", "mixture_end"]


@dataclass(frozen=True)
class Mixture:
    """Data of a one-dimensional Gaussian mixture, element-wise; the exact denoiser, as a pair or as the output of a row."""

    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-1.0, 0.8)
    stds: tuple[float, ...] = (0.4, 0.3)
    row: Row | None = None

    def x0(self, x: Tensor, level: Level) -> Tensor:
        """The mean of the data given x, of x's shape."""
        a, s = level.alpha, level.sigma
        logs, means = [], []
        for w, m, d in zip(self.weights, self.means, self.stds, strict=True):
            variance = a * a * d * d + s * s
            logs.append((math.log(w) - 0.5 * log(variance)) - (x - a * m) ** 2 / (2.0 * variance))
            means.append(m + (a * d * d / variance) * (x - a * m))
        return (torch.softmax(torch.stack(logs), 0) * torch.stack(means)).sum(0)

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        x0 = self.x0(x, level)
        eps = (x - level.alpha * x0) / level.sigma
        if self.row is None:
            return Prediction.pair(x0, eps)
        return Prediction(x, level, target(self.row, level, x0, eps), self.row)


def gaussian_end(z: Tensor, start: float, end: float, std: float, mean: float = 0.0) -> Tensor:
    """Where the probability-flow ODE takes z = x / alpha from sigma / alpha = start to end, for data N(mean, std^2).

    Args:
        z: float64; where start is infinite, the starting noise x / sigma.
        start, end: sigma / alpha, >= 0; start may be infinite.
        std, mean: of the data; std > 0.

    Source: Karras et al. 2022 (2206.00364), eq. 1: dz / dg = (z - mean) g / (std^2 + g^2).
    """
    if start == math.inf:
        return mean + z * math.sqrt(std**2 + end**2)
    return mean + (z - mean) * math.sqrt((std**2 + end**2) / (std**2 + start**2))


def mixture_end(z: Tensor, start: float, end: float, data: Mixture) -> Tensor:
    """Where the probability-flow ODE takes z = x / alpha from sigma / alpha = start to end, for a mixture of two or more Gaussians.

    In one dimension the ODE keeps quantiles: F_end(z') = F_start(z), with F_g the distribution of data + g eps. Solved by bisection
    in float64, to the last bits of z', on the logarithm of the smaller tail, so that far points keep their digits.

    Args:
        z: float64, any shape; where start is infinite, the starting noise x / sigma, whose quantiles are the normal's.
        start, end: sigma / alpha, >= 0; start may be infinite.
        data: the mixture; its stds are > 0.

    Source: Song et al. 2021 (2011.13456), section 4.3: the ODE has the marginals of the SDE; it is monotone, so it keeps ranks.
    """

    def scores(at: Tensor, g: float) -> Tensor:
        """(components, ...): how many standard deviations each component's mean lies below."""
        if g == math.inf:
            return at.expand(len(data.means), *at.shape)
        return torch.stack([(at - m) / math.hypot(d, g) for m, d in zip(data.means, data.stds, strict=True)])

    def log_tail(u: Tensor, sign: Tensor) -> Tensor:
        """log F for sign 1, log (1 - F) for sign -1."""
        logs = [math.log(w) + torch.special.log_ndtr(sign * v) for w, v in zip(data.weights, u, strict=True)]
        return torch.logsumexp(torch.stack(logs), 0)

    u = scores(z, start)
    below = log_tail(u, torch.ones_like(z))
    sign = torch.where(below < math.log(0.5), 1.0, -1.0).to(z)
    wanted = log_tail(u, sign)
    # F lies between the normal's at the smallest and the largest score, and so does every component's quantile of it
    bounds = torch.stack(
        [m + math.hypot(d, end) * v for m, d in zip(data.means, data.stds, strict=True) for v in (u.amin(0), u.amax(0))]
    )
    low, high = bounds.amin(0), bounds.amax(0)
    for _ in range(100):
        middle = 0.5 * (low + high)
        above = sign * (log_tail(scores(middle, end), sign) - wanted) > 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return 0.5 * (low + high)

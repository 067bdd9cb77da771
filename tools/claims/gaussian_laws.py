"""Guidance on Gaussians: the exact variance where a sampler ends, and the laws that it comes to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...guidance import Branch, Field, Guidance
from ...guidance.tree import Tree
from ...samplers import Sampler, on_path, trajectory
from ...schedules import Exponential, Level, Prediction, VarianceExploding

__all__ = ["Known", "laws", "variance"]


@dataclass(frozen=True)
class Known:
    """The exact denoiser of N(0, variance)."""

    variance: float

    def __call__(self, x: Tensor, level: Level, condition: Tree) -> Prediction:
        x0 = self.variance * level.alpha / (level.alpha**2 * self.variance + level.sigma**2) * x
        return Prediction.pair(x0, (x - level.alpha * x0) / level.sigma)


@torch.no_grad()
def variance(sampler: Sampler, rule: Guidance, steps: int) -> float:
    """The exact variance where a sampler ends on the Gaussians under a rule, from N(0, 80^2 + 1) at sigma 80.

    One row starts at the standard deviation and draws nothing, each of the others starts at 0 and draws 1 in one step only: all
    is linear, so the variance is the sum of the squares of their ends.
    """
    schedule = VarianceExploding(0.002, 80.0)
    levels = Exponential()(schedule, steps)
    rows = 1 + (steps + 1) * sampler.draws
    x = torch.zeros(rows, 1, dtype=torch.float64)
    x[0] = math.sqrt(levels[0].sigma ** 2 + 1)

    def noise(step: int, draw: int) -> Tensor:
        z = torch.zeros_like(x)
        z[1 + step * sampler.draws + draw] = 1.0
        return z

    model = Field({"cond": Branch(Known(1.0)), "ref": Branch(Known(2.0))}, rule, rows)
    *_, last = trajectory(on_path(sampler, schedule), model, levels, x, noise)
    return float(last.x.square().sum())


def laws(gamma: float) -> dict[str, float]:
    """The variances in the limit of small steps, and that of the powered law."""
    return {
        "powered": 2 / (gamma + 1), "ddim": 2 ** (1 - gamma), "ddpm": (2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1),
    }  # fmt: skip

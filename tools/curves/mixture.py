"""The subject whose answer is known: a mixture of Gaussians in the plane, its exact denoiser, and the exact end of its ODE."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...samplers import Sampler, on_path, trajectory
from ...samplers.refill import addressed
from ...schedules import Cosine, Grid, Level, Prediction, Schedule, Trailing
from ...schedules.parts import describe
from ..claims.guided_measures import EXACT, energy
from ..claims.mixture2d import ARMS, COMPONENTS, STD, centres, drawn
from .budgets import asks
from .subject import Block, Ends

__all__ = ["ExactMixture", "exact_pair", "ode_end"]

# root mean square beyond which ends are called diverged: the mixture lies within 1
_FAR = 10.0


def exact_pair(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """E[x0 | x] and E[eps | x] under the whole mixture, both like x.

    Args:
        x: float64 (N, 2, 1, 1).
        level: with sigma > 0.
    """
    points, means = x.flatten(1), centres().double().flatten(0, 1)
    alpha, sigma = float(level.alpha), float(level.sigma)
    variance = alpha**2 * STD**2 + sigma**2
    away = points[:, None] - alpha * means
    weight = torch.softmax(-away.square().sum(-1) / (2 * variance), 1)
    mean_away = torch.einsum("nk,nkd->nd", weight, away)
    x0 = weight @ means + alpha * STD**2 / variance * mean_away
    return x0[:, :, None, None], (sigma / variance * mean_away)[:, :, None, None]


def ode_end(x: Tensor, level: Level, steps: int = 500) -> Tensor:
    """Where the probability-flow ODE takes x from a level to data, by the classical Runge-Kutta method of order 4.

    In the angle phi with alpha = r cos phi, sigma = r sin phi the ODE of x / r is dx = (cos phi eps - sin phi x0) dphi, which is regular at
    both ends; steps shrink towards data as phi = phi_0 (1 - i / steps)^3, since the Gaussians are narrow.

    Args:
        x: float64 (N, 2, 1, 1), at the level.
        level: where it stands.
        steps: four evaluations each.

    Source: Karras et al. 2022 (2206.00364), eq. 1, in the angle.
    """

    def slope(y: Tensor, phi: float) -> Tensor:
        # at data itself the slope is that of eps, which is finite only in the limit; a tiny angle is that limit to double precision
        at = max(phi, 1e-9)
        x0, eps = exact_pair(y, Level(0.0, math.cos(at), math.sin(at)))
        return math.cos(at) * eps - math.sin(at) * x0

    y = x / math.hypot(level.alpha, level.sigma)
    start = math.atan2(level.sigma, level.alpha)
    for i in range(steps):
        phi, nxt = (start * (1 - k / steps) ** 3 for k in (i, i + 1))
        h = nxt - phi
        a = slope(y, phi)
        b = slope(y + h / 2 * a, phi + h / 2)
        c = slope(y + h / 2 * b, phi + h / 2)
        d = slope(y + h * c, nxt)
        y = y + h / 6 * (a + 2 * b + 2 * c + d)
    return y


@dataclass
class ExactMixture:
    """The mixture as a subject: every sampler is asked along the exact denoiser in float64, so all error is the sampler's.

    Args:
        schedule: the path.
        grid: its own levels.
        fine: steps of the exact ends.

    `kept` may be set to another (name, make) -> tensor, which keeps what was made.
    """

    schedule: Schedule = field(default_factory=Cosine)
    grid: Grid = field(default_factory=Trailing)
    fine: int = 500

    def __post_init__(self) -> None:
        self.kept: Callable[[str, Callable[[], Tensor]], Tensor] = lambda name, make: make()

    @property
    def measures(self) -> dict[str, str]:
        return {
            "ode": "root mean square distance to the exact end of the ODE, same noise (a Gaussian's std is 0.04)",
            "law": "energy distance of the points to the true law",
        }

    @property
    def about(self) -> dict[str, Any]:
        return {
            "model": "mixture", "schedule": describe(self.schedule), "gaussians": ARMS * COMPONENTS, "std": STD,
            "reference": f"Runge-Kutta 4 in the angle, {self.fine} steps, float64",
            "law": "energy distance 2 E|x - y| - E|x - x'| - E|y - y'|, against as many exact samples of other seeds",
        }  # fmt: skip

    def cost(self, sampler: Sampler, grid: Grid, steps: int) -> int:
        return asks(sampler, self.schedule, grid, steps)

    def ends(self, sampler: Sampler, grid: Grid, steps: int, block: Block) -> Ends:
        levels, calls = grid(self.schedule, steps), 0

        def denoise(x: Tensor, level: Level) -> Prediction:
            nonlocal calls
            calls += 1
            return Prediction.pair(*exact_pair(x, level))

        x, noise = self._start(levels[0], block)
        with torch.no_grad():
            for step in trajectory(on_path(sampler, self.schedule), denoise, levels, x, noise):
                x = step.x
        x = x / levels[-1].alpha
        if not bool(torch.isfinite(x).all()):
            return Ends(None, None, calls, failed="numbers that are not finite")
        diverged = int((x.flatten(1).square().mean(1).sqrt() > _FAR).sum())
        ode = None
        if not sampler.draws:
            ode = float((x - self._end(levels[0], block)).square().sum(1).mean().sqrt())
        return Ends(ode, energy(x, self._law(block)), calls, diverged)

    def exact(self, block: Block) -> dict[str, Any]:
        level = self.grid(self.schedule, 20)[0]

        def made() -> Tensor:
            x, _ = self._start(level, Block(block.first, min(block.count, 100)))
            apart = ode_end(x, level, self.fine) - ode_end(x, level, self.fine // 2)
            # of order 4, so that half the steps err by 16 times as much
            return apart.square().sum(1).mean().sqrt() / 15

        error = float(self.kept(f"error-{block.first}-{block.count}", made))
        return {"law": energy(self._end(level, block), self._law(block)), "error": error}

    def _start(self, level: Level, block: Block) -> tuple[Tensor, Any]:
        seeds = torch.tensor(block.seeds)
        noise = addressed(seeds, torch.zeros_like(seeds), (2, 1, 1), torch.float64)
        return level.sigma * noise(-1, 0), noise

    def _end(self, level: Level, block: Block) -> Tensor:
        name = f"end-{float(level.log_snr):.12g}-{block.first}-{block.count}"
        return self.kept(name, lambda: ode_end(self._start(level, block)[0], level, self.fine))

    def _law(self, block: Block) -> Tensor:
        seeds = torch.tensor(block.seeds) + EXACT
        return drawn(seeds, torch.arange(block.count) % ARMS)

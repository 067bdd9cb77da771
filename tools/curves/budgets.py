"""How often a sampler asks the network, counted exactly, and how many steps fit into so many evaluations."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...samplers import Sampler, on_path
from ...samplers.trajectory import Table, trajectory
from ...schedules import Grid, Level, Prediction, Schedule

__all__ = ["asks", "steps_within"]


class _Counter:
    """The exact denoiser of a Gaussian, which is finite at every level above data; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, level: Level) -> Prediction:
        self.calls += 1
        variance = level.alpha**2 * 0.25 + level.sigma**2
        return Prediction.pair(level.alpha * 0.25 / variance * x, level.sigma / variance * x)


def asks(sampler: Sampler, schedule: Schedule, grid: Grid, steps: int) -> int:
    """How often a sampler asks the model in so many steps: its step is run as it is written, and the calls are counted.

    Args:
        sampler: one whose calls do not depend on what it is answered (all but AdaptiveStep).
        schedule: the path.
        grid: its levels.
        steps: of the grid, >= 1.

    Raises:
        ValueError: for what the grid or the sampler refuses.
    """
    levels, counter = grid(schedule, steps), _Counter()
    walker = on_path(sampler, schedule)
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    with torch.no_grad():
        for _ in trajectory(walker, counter, levels, x, lambda step, draw: x, table=Table(walker, levels, None)):
            pass
    return counter.calls


def steps_within(cost: Callable[[int], int], budget: int) -> tuple[int, int] | None:
    """The largest number of steps whose cost is within a budget, and that cost; None where not even one step is.

    Args:
        cost: of a number of steps, >= steps.
        budget: evaluations, >= 1.
    """
    for steps in range(budget, 0, -1):
        spent = cost(steps)
        if spent <= budget:
            return steps, spent
    return None

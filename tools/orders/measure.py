"""Errors against the exact end, and the order that they show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ...samplers import Denoise, Sampler, on_path
from ...samplers.trajectory import Table, trajectory
from ...schedules import Level
from .paths import DATA, Both, Path

__all__ = ["STEPS", "errors_on", "fitted", "walked"]

STEPS = (16, 32, 64, 128, 256, 512, 1024)
# errors below are rounding's
_FLOOR = 1e-12
# how many doublings of the steps the order is fitted over, the last ones above the floor
_OCTAVES = 2


def walked(sampler: Sampler, denoise: Denoise, levels: Sequence[Level], x: Tensor) -> Tensor:
    """x at the last level, by the sampler's step as it is written."""
    with torch.no_grad():
        # without programs: tracing costs more than it saves on eight numbers, and the table is compared with the step elsewhere
        for step in trajectory(sampler, denoise, levels, x, table=Table(sampler, levels, None)):
            x = step.x
    return x


def errors_on(path: Path, sampler: Sampler, steps: Sequence[int]) -> dict[str, list[float]]:
    """The largest error of z = x / alpha at the path's end over four starts, for every number of steps, by kind of data.

    Args:
        path: where to walk.
        sampler: deterministic.
        steps: numbers of steps.
    """
    found: dict[str, list[float]] = {name: [] for name in DATA}
    exact, on = path.exact, on_path(sampler, path.schedule)
    for n in steps:
        levels = path.levels(n)
        z = walked(on, Both(), levels, path.start) / levels[-1].alpha
        for name, apart in zip(DATA, (z - exact).abs().chunk(len(DATA)), strict=True):
            found[name].append(float(apart.max()))
    return found


def fitted(errors: Sequence[float], steps: Sequence[int]) -> float:
    """The order: minus the slope of log error over log steps by least squares over the last two octaves above rounding.

    Args:
        errors, steps: one per measurement, steps increasing.

    Returns:
        nan where fewer than two errors are above rounding.
    """
    kept = [(n, e) for n, e in zip(steps, errors, strict=True) if e > _FLOOR and math.isfinite(e)]
    kept = [(math.log(n), math.log(e)) for n, e in kept if n * 2**_OCTAVES >= kept[-1][0]]
    if len(kept) < 2:
        return math.nan
    a, b = (sum(v) / len(kept) for v in zip(*kept, strict=True))
    return -sum((u - a) * (v - b) for u, v in kept) / sum((u - a) ** 2 for u, _ in kept)

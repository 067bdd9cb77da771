"""Variance of the predicted data along the trajectory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...schedules.level import Level
from ..trajectory import Step
from .filter import Verdict, bounded
from .window import Weight, check_window, weights

__all__ = ["TrajectoryVariance"]


class _Seen(NamedTuple):
    weights: Sequence[float]
    total: float
    mean: Tensor
    spread: Tensor


@dataclass(frozen=True)
class TrajectoryVariance:
    """Rejects samples whose predicted x0 still moves late: its population variance over the steps in a window, mean over elements.

    A sample between two modes keeps changing its mind, but so does one that chose its mode late, and one that a deterministic sampler
    parked between two modes does not: the paper's figures were not reached here (`sfumato claims mode-interpolation`), and RenoiseProbe
    does better where its evaluations can be paid. The window is in log-SNR, so that it means the same for another number of steps; the
    threshold is that of one model, sampler, grid and guidance. Memory does not grow with the steps, and no evaluation is added.

    Args:
        threshold: largest score that is kept, >= 0; inf scores and keeps all.
        low, high: the window, low <= log-SNR <= high where a step begins.
        weight: what a step counts for: "log_snr", the log-SNR that it stands for, or "steps", one each.
        last: the last so many steps instead of a window in log-SNR, >= 2.

    Raises:
        ValueError: for a negative threshold or an empty window; before sampling, for a window with fewer than two steps in it.

    Source: Aithal et al. 2024 (2406.09358); see `paper`.
    """

    threshold: float = math.inf
    low: float = 0.0
    high: float = math.inf
    weight: Weight = "log_snr"
    last: int | None = None

    def __post_init__(self) -> None:
        if not self.threshold >= 0.0:
            raise ValueError(
                f"TrajectoryVariance.threshold is {self.threshold}; allowed: >= 0, inf to score without rejecting"
            )
        if self.weight not in ("log_snr", "steps"):
            raise ValueError(f"TrajectoryVariance.weight is {self.weight!r}; allowed: 'log_snr', 'steps'")
        check_window("TrajectoryVariance", self.low, self.high, self.last, 2)

    @classmethod
    def paper(cls, threshold: float = math.inf, last: int = 10) -> TrajectoryVariance:
        """The statistic of the authors' code: the last 10 steps, each counting the same, in whatever log-SNR they are.

        Their code has no threshold: it drops the 2.44 % that score highest.

        Args:
            threshold: largest score that is kept, >= 0.
            last: how many steps, >= 2.
        """
        return cls(threshold, -math.inf, math.inf, "steps", last)

    def begins(self, levels: Sequence[Level]) -> int:
        """The first step that it looks at, for `calibrate`."""
        return next(i for i, w in enumerate(weights("TrajectoryVariance", levels, self.low, self.high, self.last)) if w)

    def init(self, x: Tensor, levels: Sequence[Level]) -> _Seen:
        zero = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        own = weights("TrajectoryVariance", levels, self.low, self.high, self.last, self.weight)
        return _Seen(own, 0.0, zero, zero)

    def update(self, memory: _Seen, step: Step) -> _Seen:
        own, total, mean, spread = memory
        weight = own[step.index]
        if not weight:
            return memory
        # Welford's update, weighted: nothing cancels, one pass, two tensors; x0 - the new mean is away * (1 - share)
        total += weight
        share = weight / total
        x0 = step.prediction.x0
        away = (x0 if x0.dtype == mean.dtype else x0.to(mean.dtype)) - mean
        mean = torch.add(mean, away, alpha=share)
        return _Seen(own, total, mean, torch.addcmul(spread, away, away, value=weight * (1.0 - share)))

    def verdict(self, memory: _Seen) -> Verdict:
        return bounded(memory.spread.flatten(1).mean(1) / memory.total, self.threshold)

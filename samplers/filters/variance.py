"""Variance of the predicted data along the trajectory."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..trajectory import Step
from .filter import Verdict

__all__ = ["TrajectoryVariance"]


class _Seen(NamedTuple):
    steps: int
    mean: Tensor
    spread: Tensor


@dataclass(frozen=True)
class TrajectoryVariance:
    """Rejects samples whose predicted x0 still moves late: population variance over the steps in a window, mean over elements.

    A sample between two modes keeps changing its mind. The window is in log-SNR, so that it means the same for another number of
    steps; the threshold is that of one model, sampler and grid. Memory does not grow with the steps.

    Args:
        threshold: largest score that is kept, >= 0; inf scores and keeps all.
        low, high: the window, low <= log-SNR <= high.

    Raises:
        ValueError: for a negative threshold or an empty window.

    Source: Aithal et al. 2024 (2406.09358), section 5 (their window is the last steps of DDPM).
    """

    threshold: float = math.inf
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if not self.threshold >= 0.0:
            raise ValueError(
                f"TrajectoryVariance.threshold is {self.threshold}; allowed: >= 0, inf to score without rejecting"
            )
        if not self.low < self.high:
            raise ValueError(f"TrajectoryVariance(low={self.low}, high={self.high}); allowed: low < high, in log-SNR")

    def init(self, x: Tensor) -> _Seen:
        zero = torch.zeros_like(x, dtype=torch.float32 if x.dtype != torch.float64 else x.dtype)
        return _Seen(0, zero, zero.clone())

    def update(self, memory: _Seen, step: Step) -> _Seen:
        if not self.low <= step.now.log_snr <= self.high:
            return memory
        # Welford's update: nothing cancels, one pass, two tensors
        n, mean, spread = memory
        x0 = step.prediction.x0.to(mean.dtype)
        away = x0 - mean
        mean = mean + away / (n + 1)
        return _Seen(n + 1, mean, spread + away * (x0 - mean))

    def verdict(self, memory: _Seen) -> Verdict:
        if memory.steps < 2:
            raise ValueError(
                f"TrajectoryVariance saw {memory.steps} step(s) in log-SNR [{self.low}, {self.high}]; a variance needs two: "
                "widen the window or take more steps"
            )
        score = (memory.spread / memory.steps).flatten(1).mean(1)
        return Verdict(score <= self.threshold, score)

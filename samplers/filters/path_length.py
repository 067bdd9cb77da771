"""How far the predicted data travel along the trajectory."""

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
from .window import check_window, weights

__all__ = ["PathLength"]


class _Seen(NamedTuple):
    weights: Sequence[float]
    x0: Tensor | None
    length: Tensor


@dataclass(frozen=True)
class PathLength:
    """Rejects samples whose predicted x0 travels far late: the sum over the steps in a window of how far it moves (root mean square).

    Ours: costs what TrajectoryVariance costs, and in the same window removed more with DDPM (`sfumato claims mode-interpolation`). A
    threshold is that of one model, sampler, grid and guidance.

    Args:
        threshold: largest score that is kept, >= 0, in the units of the data; inf scores and keeps all.
        low, high: the window, low <= log-SNR <= high where a step begins.
        last: the last so many steps instead of a window in log-SNR, >= 2.

    Raises:
        ValueError: for a negative threshold or an empty window; before sampling, for a window with fewer than two steps in it.
    """

    threshold: float = math.inf
    low: float = 0.0
    high: float = math.inf
    last: int | None = None

    def __post_init__(self) -> None:
        if not self.threshold >= 0.0:
            raise ValueError(f"PathLength.threshold is {self.threshold}; allowed: >= 0, inf to score without rejecting")
        check_window("PathLength", self.low, self.high, self.last, 2)

    def begins(self, levels: Sequence[Level]) -> int:
        """The first step that it looks at, for `calibrate`."""
        return next(i for i, w in enumerate(weights("PathLength", levels, self.low, self.high, self.last)) if w)

    def init(self, x: Tensor, levels: Sequence[Level]) -> _Seen:
        zero = torch.zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        return _Seen(weights("PathLength", levels, self.low, self.high, self.last), None, zero)

    def update(self, memory: _Seen, step: Step) -> _Seen:
        own, before, length = memory
        if not own[step.index]:
            return memory
        # held as it is: the loop writes to no tensor that somebody holds
        x0 = step.prediction.x0
        x0 = x0 if x0.dtype == length.dtype else x0.to(length.dtype)
        if before is None:
            return _Seen(own, x0, length)
        moved = torch.linalg.vector_norm((x0 - before).flatten(1), dim=1)
        return _Seen(own, x0, torch.add(length, moved, alpha=math.sqrt(len(x0) / max(x0.numel(), 1))))

    def verdict(self, memory: _Seen) -> Verdict:
        return bounded(memory.length, self.threshold)

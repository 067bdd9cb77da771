"""Noise a finished picture again, and see whether the model brings it back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.schedule import Schedule
from ..state import Denoise
from ..trajectory import Step
from .filter import Sampling, Verdict, at_end, bounded

__all__ = ["RenoiseProbe"]


@dataclass(frozen=True)
class RenoiseProbe:
    """Rejects samples that the model does not bring back: k fresh noisings of the finished sample, mean squared round-trip error.

    Ours. A sample of the data returns to itself from a little noise; one between two modes falls into either of them. The error is
    mean over k of |D(alpha x + sigma eps) - x|^2 / dim at one log-SNR, which `calibrate` finds from training images without labels,
    together with the threshold. It asks the model k times more per attempt, under the picture's own condition and without guidance, and
    it looks at the finished sample alone: a threshold holds for every sampler of the model. It sees what does not fit together nearby,
    not that a picture as a whole never occurs.

    Args:
        level: log-SNR at which it looks; None: to be found by `calibrate`.
        threshold: largest score that is kept, >= 0; inf scores and keeps all.
        least: smallest score that is kept, >= 0; above 0 it rejects what is too smooth too (empty pictures).
        k: noisings, 1 to 65,536.
        path: the schedule of the model; `Model.sample` sets it.

    Raises:
        ValueError: for values out of range; before sampling, without a level or a path.
    """

    level: float | None = None
    threshold: float = math.inf
    least: float = 0.0
    k: int = 8
    path: Schedule | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not math.isfinite(self.level):
            raise ValueError(f"RenoiseProbe.level is {self.level}; allowed: a finite log-SNR, or None to be calibrated")
        if not 0.0 <= self.least <= self.threshold:
            raise ValueError(
                f"RenoiseProbe(threshold={self.threshold}, least={self.least}); allowed: 0 <= least <= threshold"
            )
        if not isinstance(self.k, int) or isinstance(self.k, bool) or not 1 <= self.k <= 1 << 16:
            raise ValueError(f"RenoiseProbe.k is {self.k!r}; allowed: a whole number from 1 to 65536")

    @property
    def at(self) -> Level:
        """The level at which it looks.

        Raises:
            ValueError: where it is not known yet.
        """
        if self.level is None:
            raise ValueError(
                "RenoiseProbe has no level: at which noise a picture must return depends on the data. `sfumato calibrate RUN` finds it "
                "(in Python `calibrate(model, RenoiseProbe(), data, held_out=True)`); or give one, such as RenoiseProbe(level=4.0)"
            )
        if self.path is None:
            raise ValueError(
                "RenoiseProbe needs the schedule of the model: RenoiseProbe(..., path=schedule), such as "
                "pipe.scheduler.schedule of a pipeline, or on_path(filter, schedule) of a calibrated one"
            )
        return self.path.at_log_snr(self.level)

    def check(self, sampling: Sampling) -> None:
        """Refuse to be asked without a level (ValueError)."""
        _ = self.at

    def score(self, x0: Tensor, denoise: Denoise, noise: Callable[[int], Tensor]) -> Tensor:
        """The mean squared round-trip error, float (B,).

        Args:
            x0: (B, ...), in the units of the data.
            denoise: the model; guided ones are asked under the picture's own condition, unguided.
            noise: draw -> standard normals like x0; draws 0 to k - 1 are taken.
        """
        at, ask = self.at, getattr(denoise, "plain", denoise)
        total = torch.zeros(len(x0), dtype=torch.promote_types(x0.dtype, torch.float32), device=x0.device)
        for draw in range(self.k):
            back = ask(at.alpha * x0 + at.sigma * noise(draw), at).x0
            total += (back - x0).to(total.dtype).flatten(1).square().mean(1)
        return total / self.k

    def init(self, x: Tensor, levels: Sequence[Level]) -> Tensor:
        _ = self.at  # refused before the first evaluation
        return x.new_zeros(len(x))

    def update(self, memory: Tensor, step: Step) -> Tensor:
        return at_end(self, memory, step)

    def verdict(self, memory: Tensor) -> Verdict:
        return bounded(memory, self.threshold, self.least)

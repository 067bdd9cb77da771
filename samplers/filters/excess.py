"""Noise a finished picture again, and see whether it differs from what the model brings back by more than the model expects."""

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

__all__ = ["ExcessError"]


@dataclass(frozen=True)
class ExcessError:
    """Rejects samples whose round-trip error from much noise is larger than the model itself expects of such a picture.

    Ours. A denoiser says how uncertain it is: the variance of x0 given z = alpha x + sigma eps is sigma^2 / alpha times the divergence of
    D (Tweedie's formula of second order). Over the data the squared error |D(z) - x|^2 has that mean at every level and z, so a picture is
    not blamed for what the model knows to be uncertain; a rare one does score higher. What is left of the error scores. By Stein's lemma
    it needs no derivative, since (alpha / sigma)^2 (|D - x|^2 - variance) has the mean of e (e - eps), e the predicted noise. Mean over
    k noisings, elements and levels; 0 on average over the data for an exact model, not for each picture. It asks the model k times per
    level and attempt, under the picture's own condition and without guidance, and looks at the finished sample alone.

    What does not fit together though each part is fine, such as two of a kind where there is one, shows from much noise only, where the
    model must guess. And it shows in the picture as it would be stored: unrounded values carry traces of how the model drew it, by which
    it takes its own mistakes for real; so give `bins`. It is no cure: where it rejected 2 % of good pictures it rejected a third to a
    half of repeated shapes, and of empty pictures, which are too simple, none (`sfumato claims simple-shapes`).

    Of a Gaussian N(m, s^2) it is alpha^2 sigma^2 / (alpha^2 s^2 + sigma^2)^2 (|x - m|^2 / dim - s^2).

    Args:
        levels: log-SNRs at which it looks.
        threshold: largest score that is kept; inf scores and keeps all.
        least: smallest score that is kept; -inf keeps what fits the model better than expected, too.
        k: noisings per level, 1 to 4,096.
        bins: values that a number of the data can take over [-1, 1], >= 2, to which the picture is rounded first: 256 of 8-bit images,
            2 of black and white; None: it is judged as it is.
        path: the schedule of the model; `Model.sample` sets it.

    Raises:
        ValueError: for values out of range; before sampling, without a path.
    """

    levels: Sequence[float] = (-3.0, -2.0, -1.0, 0.0)
    threshold: float = math.inf
    least: float = -math.inf
    k: int = 8
    bins: int | None = None
    path: Schedule | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        if not 1 <= len(self.levels) <= 16 or not all(math.isfinite(level) for level in self.levels):
            raise ValueError(f"ExcessError.levels is {self.levels}; allowed: 1 to 16 finite log-SNRs")
        if not self.least <= self.threshold:
            raise ValueError(
                f"ExcessError(threshold={self.threshold}, least={self.least}); allowed: least <= threshold"
            )
        if not isinstance(self.k, int) or isinstance(self.k, bool) or not 1 <= self.k <= 4096:
            raise ValueError(f"ExcessError.k is {self.k!r}; allowed: a whole number from 1 to 4096")
        if self.bins is not None and (not isinstance(self.bins, int) or isinstance(self.bins, bool) or self.bins < 2):
            raise ValueError(
                f"ExcessError.bins is {self.bins!r}; allowed: a whole number >= 2, such as 256 for 8-bit images, or None"
            )

    @property
    def at(self) -> list[Level]:
        """The levels at which it looks.

        Raises:
            ValueError: where the path is not known.
        """
        if self.path is None:
            raise ValueError(
                "ExcessError needs the schedule of the model: ExcessError(..., path=schedule), such as pipe.scheduler.schedule of a "
                "pipeline, or on_path(filter, schedule) of a calibrated one"
            )
        return [self.path.at_log_snr(level) for level in self.levels]

    def check(self, sampling: Sampling) -> None:
        """Refuse to be asked without a path (ValueError)."""
        _ = self.at

    def score(self, x0: Tensor, denoise: Denoise, noise: Callable[[int], Tensor]) -> Tensor:
        """The error in excess of what the model expects, in units of the noise, float (B,).

        Args:
            x0: (B, ...), in the units of the data.
            denoise: the model; guided ones are asked under the picture's own condition, unguided.
            noise: draw -> standard normals like x0; draws 0 to k len(levels) - 1 are taken.
        """
        at, ask = self.at, getattr(denoise, "plain", denoise)
        dtype = torch.promote_types(x0.dtype, torch.float32)
        if self.bins is not None:
            step = 2 / (self.bins - 1)
            x0 = (((x0.to(dtype).clamp(-1, 1) + 1) / step).round() * step - 1).to(x0.dtype)
        total = torch.zeros(len(x0), dtype=dtype, device=x0.device)
        for place, level in enumerate(at):
            for draw in range(self.k):
                eps = noise(place * self.k + draw)
                # read off x0, which every row knows where there is noise
                back = ask(level.alpha * x0 + level.sigma * eps, level).x0
                eps, off = eps.to(dtype), x0.to(dtype) - back.to(dtype)
                believed = eps + (level.alpha / level.sigma) * off
                total += (believed * (believed - eps)).flatten(1).mean(1)
        return total / (len(at) * self.k)

    def init(self, x: Tensor, levels: Sequence[Level]) -> Tensor:
        _ = self.at  # refused before the first evaluation
        return x.new_zeros(len(x))

    def update(self, memory: Tensor, step: Step) -> Tensor:
        return at_end(self, memory, step)

    def verdict(self, memory: Tensor) -> Verdict:
        return bounded(memory, self.threshold, self.least)

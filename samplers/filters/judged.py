"""Anybody's judge of finished pictures as a filter."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ...schedules.level import Level
from ..state import Denoise
from ..trajectory import Step
from .filter import Verdict, at_end, bounded

__all__ = ["Judge", "Judged"]


@runtime_checkable
class Judge(Protocol):
    """Rates finished pictures: a classifier of what must not be shown, the distance to the nearest training image, a density."""

    def rate(self, x0: Tensor) -> Tensor:
        """One number per picture, larger is worse: x0 (B, ...) in the units of the data -> float (B,)."""
        ...


@dataclass(frozen=True)
class Judged:
    """Rejects finished pictures that a judge rates too high, or too low; a safety classifier by class path, memorisation, low density.

    Args:
        judge: who rates; in YAML {class_path: mine.Safety, init_args: {...}}.
        threshold: largest rating that is kept; inf rates and keeps all.
        least: smallest rating that is kept.

    Raises:
        ValueError: for least above threshold; while it runs, for a judge that does not answer with one number per picture.
    """

    judge: Judge
    threshold: float = math.inf
    least: float = -math.inf

    def __post_init__(self) -> None:
        if isinstance(self.judge, type) or not isinstance(self.judge, Judge):
            raise ValueError(f"Judged.judge is {self.judge!r}; allowed: an object with a method rate(x0) -> float (B,)")
        if not self.least <= self.threshold:
            raise ValueError(f"Judged(threshold={self.threshold}, least={self.least}); allowed: least <= threshold")

    def score(self, x0: Tensor, denoise: Denoise, noise: Callable[[int], Tensor]) -> Tensor:
        """The judge's rating, float (B,); the model is not asked."""
        found = self.judge.rate(x0)
        if not isinstance(found, Tensor) or found.shape != x0.shape[:1]:
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"{type(self.judge).__name__}.rate returned {shown} for {len(x0)} pictures; it must return ({len(x0)},)"
            )
        return found.detach().to(torch.promote_types(found.dtype, torch.float32))

    def init(self, x: Tensor, levels: Sequence[Level]) -> Tensor:
        return x.new_zeros(len(x))

    def update(self, memory: Tensor, step: Step) -> Tensor:
        return at_end(self, memory, step)

    def verdict(self, memory: Tensor) -> Verdict:
        return bounded(memory, self.threshold, self.least)

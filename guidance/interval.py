"""Guidance in a limited interval of noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from torch import Tensor

from ..schedules.prediction import Prediction
from .ask import Ask, Guidance
from .tree import Tree

__all__ = ["Interval"]


@dataclass(frozen=True)
class Interval:
    """A rule where low < sigma / alpha <= high, the conditional model elsewhere: two evaluations inside, one outside.

    Decided by the level where the step began, as the authors do, so that the second stage of a step follows the first.

    Args:
        rule: the rule inside.
        low, high: in sigma / alpha, 0 <= low <= high <= inf; EDM2-S (0.28, 2.90], EDM2-XXL (0.19, 1.61]. low = high never guides.

    Raises:
        ValueError: for other bounds.

    Source: Kynkaanniemi et al. 2024 (2404.07724), section 3 (their sigma is sigma / alpha).
    """

    rule: Guidance
    low: float = 0.0
    high: float = inf

    def __post_init__(self) -> None:
        if not 0.0 <= self.low <= self.high:
            raise ValueError(f"Interval(low={self.low}, high={self.high}); allowed: 0 <= low <= high, in sigma / alpha")

    def init(self, x: Tensor) -> Tree:
        return self.rule.init(x)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        if not ask.now.is_scalar:
            raise ValueError("Interval needs one noise level per step; these are per sample or per element")
        if self.low < ask.now.ratio <= self.high:
            return self.rule(ask, memory)
        (cond,) = ask("cond")
        return cond, memory

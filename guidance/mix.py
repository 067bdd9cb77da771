"""Several conditions at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from ..schedules.prediction import Prediction, combine
from .ask import Ask
from .tree import Tree

__all__ = ["Mix"]


@dataclass(frozen=True)
class Mix:
    """ref + sum of weight * (branch - ref): composed conditions; one branch is CFG, a weight below 0 steers away.

    Branches of one network share a call. A branch of weight 0 is not asked, nor is the reference where the weights sum to 1.

    Args:
        weights: by branch, finite; {"cond": 2, "second": 1.5} wants both.
        against: the branch to steer away from.

    Raises:
        ValueError: for no weights, weights that are not finite, and a weight of the reference itself.

    Source: Liu et al. 2022 (2206.01714), composition by conjunction and negation.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: {"cond": 3.0})
    against: str = "ref"

    def __post_init__(self) -> None:
        if not isinstance(self.against, str) or not self.against:
            raise ValueError(
                f"Mix.against is {self.against!r}; allowed: the name of a branch, such as 'ref' or 'negative'"
            )
        named = isinstance(self.weights, Mapping) and all(isinstance(name, str) and name for name in self.weights)
        if not named or not self.weights or not all(_finite(w) for w in self.weights.values()):
            raise ValueError(
                f'Mix.weights is {self.weights!r}; allowed: finite numbers by branch, such as {{"cond": 2, "second": 1.5}}'
            )
        if self.against in self.weights:
            raise ValueError(
                f"Mix.weights names {self.against!r}, the branch that it steers away from, whose weight is 1 less the others'; leave it out"
            )

    def init(self, x: Tensor) -> Tree:
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        rest = 1.0 - sum(self.weights.values())
        weights = {name: w for name, w in self.weights.items() if w != 0.0}
        if abs(rest) > 1e-12 or not weights:
            weights = {self.against: rest, **weights}
        names = sorted(weights, key=lambda name: name == "cond")  # "cond" last: a learned variance is the last one's
        return combine([weights[name] for name in names], ask(*names)), memory


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

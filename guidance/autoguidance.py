"""Guidance by a weaker version of the same network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..schedules.prediction import Prediction
from .ask import Ask
from .checks import check_scale
from .rules import steer
from .tree import Tree

__all__ = ["Autoguidance"]


@dataclass(frozen=True)
class Autoguidance:
    """weak + scale * (cond - weak): away from the mistakes of a smaller or less trained network under the same condition.

    Two evaluations, in two calls. The weak network is the branch "weak": `model.sample(..., weak=load("runs/small"))`, which may be an
    early checkpoint (`load(run, step=200)`). It needs no null class.

    Args:
        scale: as CFG's; 1 is unguided at one evaluation; EDM2 2.05 to 2.1 (ImageNet 512).

    Raises:
        ValueError: for a scale that is not finite.

    Source: Karras et al. 2024 (2406.02507).
    """

    scale: float | Sequence[float] = 2.0

    def __post_init__(self) -> None:
        check_scale("Autoguidance", self.scale)

    def init(self, x: Tensor) -> Tree:
        return ()

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        return steer(ask, "Autoguidance.scale", self.scale, "weak"), memory

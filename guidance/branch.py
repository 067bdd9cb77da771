"""A branch of a model: a network, and what it is conditioned on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .tree import Tree

__all__ = ["Branch", "Network"]

Network: TypeAlias = Callable[[Tensor, Level, Tree], Prediction]
"""(x, level, condition) -> what it believes; a Denoiser is one. Networks that are == share calls."""


class Branch(NamedTuple):
    """A network and what it is conditioned on.

    network: (x, level, condition) -> Prediction. condition: a tree of batch-first tensors, or None.
    """

    network: Network
    condition: Tree = None

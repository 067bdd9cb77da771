"""The guided data cut to their range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import X0
from .ask import Ask, Guidance
from .checks import check_number, check_rule
from .rules import CFG
from .space import check_levels, check_space, write
from .tree import Tree

__all__ = ["Threshold"]


@dataclass(frozen=True)
class Threshold:
    """A rule whose predicted data are cut to [-limit, limit]; eps is made to agree, (x - alpha x0) / sigma. For data in pixels only.

    Static, or dynamic: with a quantile, each sample is cut at s, that quantile of |x0| but at least the limit, and divided by s / limit,
    so that what saturates moves inwards.

    Args:
        rule: what guides.
        limit: of the data, > 0; 1 for pixels.
        quantile: in (0, 1], Imagen about 0.995; None: static.

    Raises:
        ValueError: for values out of range.
        PairingError: for a level without noise, where x0 is x itself and nothing of eps would be left.

    Source: Saharia et al. 2022 (2205.11487).
    """

    rule: Guidance = field(default_factory=CFG)
    limit: float = 1.0
    quantile: float | None = None

    def __post_init__(self) -> None:
        check_rule(self, self.rule)
        for name, value in (("limit", self.limit), ("quantile", 1.0 if self.quantile is None else self.quantile)):
            check_number(self, name, value, "a number above 0")
        if not 0.0 < self.limit < math.inf:
            raise ValueError(f"Threshold.limit is {self.limit}; allowed: above 0 (1 for data in [-1, 1])")
        if self.quantile is not None and not 0.0 < self.quantile <= 1.0:
            raise ValueError(
                f"Threshold.quantile is {self.quantile}; allowed: above 0 to 1 (0.995 is usual), or none for a static limit"
            )

    def init(self, x: Tensor) -> Tree:
        return self.rule.init(x)

    def check(self, levels: Sequence[Level]) -> None:
        check_space(self, X0(), levels)
        check_levels(self.rule, levels)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        p, memory = self.rule(ask, memory)
        x0 = (p.toward or p).x0
        if self.quantile is None:
            return write(ask, p, X0(), x0.clamp(-self.limit, self.limit)), memory
        s = _quantile(x0.abs(), self.quantile).clamp_min(self.limit)
        return write(ask, p, X0(), x0.clamp(-s, s) * (self.limit / s)), memory


def _quantile(v: Tensor, q: float) -> Tensor:
    """Per sample, linear between the two nearest values, to multiply v with; torch.quantile stops at 16 million elements."""
    flat = v.flatten(1).to(torch.promote_types(v.dtype, torch.float32))
    place = q * (flat.shape[1] - 1)
    below = math.floor(place)
    low = flat.kthvalue(below + 1, 1).values
    high = flat.kthvalue(min(below + 2, flat.shape[1]), 1).values
    return torch.lerp(low, high, place - below).to(v).view(-1, *[1] * (v.ndim - 1))

"""A guided prediction with the spread of the unguided one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import X0, Row
from .ask import Ask, Guidance
from .checks import check_number, check_rule, check_space_is_row
from .rules import CFG
from .space import check_levels, check_space, read, write
from .tree import Tree

__all__ = ["Rescale"]


@dataclass(frozen=True)
class Rescale:
    """X (1 - phi + phi std(X_cond) / std(X)): pulls a guided prediction's spread back to the conditional one's, against overexposure.

    The standard deviation is one per sample, over all its elements. No evaluation of its own.

    Args:
        rule: what guides.
        phi: how much of it, in [0, 1]; 0 is the rule alone.
        space: in which X is read, any row. The paper's models predict v; diffusers takes the network's own output, which is
            space Eps() for an eps network and does little at high noise, where eps has spread 1 whatever guides.

    Raises:
        ValueError: for phi outside [0, 1]; when asked, for samples of a single number.
        PairingError: for a space that says nothing at a level that is asked.

    Source: Lin et al. 2024 (2305.08891), section 3.4.
    """

    rule: Guidance = field(default_factory=lambda: CFG(7.5))
    phi: float = 0.7
    space: Row = field(default_factory=X0)

    def __post_init__(self) -> None:
        check_rule(self, self.rule)
        check_space_is_row(self, self.space)
        check_number(self, "phi", self.phi, "0 (not at all) to 1 (wholly)")
        if not 0.0 <= self.phi <= 1.0:
            raise ValueError(f"Rescale.phi is {self.phi}; allowed: 0 (not at all) to 1 (wholly)")

    def init(self, x: Tensor) -> Tree:
        return self.rule.init(x)

    def check(self, levels: Sequence[Level]) -> None:
        check_space(self, self.space, levels)
        check_levels(self.rule, levels)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        p, memory = self.rule(ask, memory)
        (cond,) = ask("cond")
        if self.phi == 0.0 or p is cond:
            return p, memory
        if ask.x[0].numel() == 1:
            raise ValueError(
                "Rescale compares spreads within a sample, and a sample of one number has none; use its rule alone"
            )
        x = read(ask, p.toward or p, self.space)
        wanted, has = _std(read(ask, cond, self.space)), _std(x)
        factor = torch.where(has > 0, wanted / has, 1.0)
        return write(ask, p, self.space, self.phi * (x * factor) + (1 - self.phi) * x), memory


def _std(v: Tensor) -> Tensor:
    """Per sample, to multiply v with."""
    return v.flatten(1).std(1).view(-1, *[1] * (v.ndim - 1))

"""Adaptive projected guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import X0, Row
from .ask import Ask
from .checks import check_branch, check_number, check_scale, check_space_is_row
from .space import check_space, read, write
from .tree import Tree

__all__ = ["APG"]


@dataclass(frozen=True)
class APG:
    """cond + (scale - 1) * (the part of cond - ref across cond + eta * the part along it), against oversaturation.

    First momentum (the difference plus momentum times the last step's), then its length is cut, then it is projected. With eta 1,
    no cut and no momentum it is CFG.

    Args:
        scale: as CFG's, 1 is unguided at one evaluation; one number, or one per picture.
        eta: share of the part along cond, which saturates, finite; 0 in the paper.
        norm: the difference is cut to this length (over a sample, in units of the data), > 0. It grows with the picture's size.
        momentum: of the difference, in (-1, 1); below 0 it takes back what the last step did. Its effect depends on the number
            of steps.
        against: the branch to steer away from.
        space: in which all this is done; the paper's is x0.

    The paper's (norm, momentum): EDM2-S (2.5, -0.75), DiT-XL/2 (5, -0.5), SDXL (15, -0.5).

    Raises:
        ValueError: for values out of range.
        PairingError: for a space that says nothing at a level that is asked.

    Source: Sadat et al. 2024 (2410.02416).
    """

    scale: float | Sequence[float] = 3.0
    eta: float = 0.0
    norm: float = math.inf
    momentum: float = 0.0
    against: str = "ref"
    space: Row = field(default_factory=X0)

    def __post_init__(self) -> None:
        check_scale("APG", self.scale)
        check_branch(self, self.against)
        check_space_is_row(self, self.space)
        for name in ("eta", "norm", "momentum"):
            check_number(self, name, getattr(self, name), "a number")
        if not math.isfinite(self.eta):
            raise ValueError(
                f"APG.eta is {self.eta}; allowed: a finite number (0 in the paper, 1 keeps CFG's direction)"
            )
        if not self.norm > 0.0:
            raise ValueError(f"APG.norm is {self.norm}; allowed: above 0, or .inf for no cut")
        if not -1.0 < self.momentum < 1.0:
            raise ValueError(f"APG.momentum is {self.momentum}; allowed: in (-1, 1); the paper's are -0.75 to -0.5")

    def init(self, x: Tensor) -> Tree:
        return (torch.zeros_like(x),) if self.momentum else ()

    def check(self, levels: Sequence[Level]) -> None:
        check_space(self, self.space, levels)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        if self.scale == 1.0:
            (only,) = ask("cond")
            return only, memory
        on = ask.where("APG.scale", self.scale, lambda v: v != 1.0)
        answer, ref = (ask if on is None else ask.only(on))("cond", self.against)
        cond = read(ask, answer, self.space)
        step = cond - read(ask, ref, self.space)
        if self.momentum:
            step = step + self.momentum * memory[0]
            memory = (step,)
        if self.norm < math.inf:
            size = _dot(step, step)
            # no root of what is not cut, whose slope at zero (branches that agree) is none
            cut = self.norm / size.clamp_min(self.norm * self.norm).sqrt()
            step = step * torch.where(size > self.norm * self.norm, cut, 1.0).to(step)
        own = _dot(cond, cond)
        along = (_dot(step, cond) / own.clamp_min(torch.finfo(own.dtype).tiny)).to(cond) * cond
        wanted = cond + (ask.each("APG.scale", self.scale) - 1.0) * (step - (1.0 - self.eta) * along)
        return write(ask, answer, self.space, wanted), memory


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Per sample, to multiply with; in float32 at least, since the sum over a picture is beyond half precision."""
    a, b = (v.to(torch.promote_types(v.dtype, torch.float32)) for v in (a, b))
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))

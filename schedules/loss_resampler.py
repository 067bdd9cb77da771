"""A density that sees losses: noise levels in proportion to the size of their loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .densities import UniformEntries
from .density import Density, Drawn, count_of
from .schedule import Schedule

__all__ = ["Learning", "LossSecondMoment"]


@runtime_checkable
class Learning(Density, Protocol):
    """A density that learns from the losses of training. What it knows is one tensor, kept and saved by the trainer; every process
    tells it the same losses in the same order, so that all know the same."""

    def start(self, schedule: Schedule) -> Tensor:
        """What it knows before the first step, a tensor on the host."""
        ...

    def draw(self, known: Tensor, u: Tensor, schedule: Schedule) -> Drawn:
        """Levels at the quantiles u, float64 (B,) in (0, 1), and the factors on their losses, given what it knows."""
        ...

    def learn(self, known: Tensor, t: Tensor, loss: Tensor) -> Tensor:
        """What it knows after a step: t and loss, float64 (B,) on the host, of the whole batch; losses without the factor."""
        ...


@dataclass(frozen=True)
class LossSecondMoment:
    """Entries of a table in proportion to sqrt(E[loss^2]), over the last losses of each; unbiased, by a factor 1 / (T p) on the loss.

    Uniform until every entry has been seen `history` times. For the variational bound, whose terms differ by orders of magnitude; the
    paper advises against it for the plain loss and the hybrid.

    Args:
        steps: entries T, >= 1; null: as many as the schedule's table has.
        history: losses remembered per entry, >= 1.
        uniform: share of uniform draws, in (0, 1].

    Raises:
        ValueError: for other values; when called, without steps on a schedule that is no table.

    Source: Nichol & Dhariwal 2021 (2102.09672), section 3.3.
    """

    steps: int | None = None
    history: int = 10
    uniform: float = 0.001

    def __post_init__(self) -> None:
        if self.steps is not None and (
            not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1
        ):
            raise ValueError(f"LossSecondMoment.steps is {self.steps!r}; allowed: a whole number >= 1, or null")
        whole = isinstance(self.history, int) and not isinstance(self.history, bool)
        if not whole or self.history < 1 or not 0 < self.uniform <= 1:
            raise ValueError(
                f"LossSecondMoment(history={self.history}, uniform={self.uniform}); allowed: history >= 1, 0 < uniform <= 1 "
                "(the paper's are 10 and 0.001)"
            )

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        return UniformEntries(self.steps or count_of(schedule, "LossSecondMoment"))(u, schedule)

    def start(self, schedule: Schedule) -> Tensor:
        count = self.steps or count_of(schedule, "LossSecondMoment")
        return torch.full((count, self.history), math.nan, dtype=torch.float64)

    def shares(self, known: Tensor) -> Tensor:
        """The probability of each entry, float64 (T,)."""
        size = known.square().mean(1).sqrt()
        if not 0 < float(size.sum()) < math.inf:  # something has not been seen yet (nan), or all losses are zero
            return torch.full((len(known),), 1.0 / len(known), dtype=torch.float64)
        return (1.0 - self.uniform) * size / size.sum() + self.uniform / len(known)

    def draw(self, known: Tensor, u: Tensor, schedule: Schedule) -> Drawn:
        share = self.shares(known).to(u.device)
        edges = share.cumsum(0)
        # the last edge is 1 but for round-off
        index = torch.searchsorted(edges / edges[-1], u, right=True).clamp(max=len(share) - 1)
        return Drawn(schedule((index + 1).double() / len(share)), 1.0 / (len(share) * share[index]))

    def learn(self, known: Tensor, t: Tensor, loss: Tensor) -> Tensor:
        index = ((t * len(known)).round().long() - 1).clamp(0, len(known) - 1)
        order = index.argsort(stable=True)
        entry, count = index[order], torch.bincount(index, minlength=len(known))
        # the place of each loss among those of its entry, from the last: 0, 1, ...
        age = (count.cumsum(0)[entry] - 1) - torch.arange(len(entry))
        kept = age < self.history
        # what was known moves towards the past by as many as came
        moved = torch.arange(self.history)[None] + count[:, None].clamp(max=self.history)
        past = torch.where(moved < self.history, known.gather(1, moved.clamp(max=self.history - 1)), math.nan)
        past[entry[kept], self.history - 1 - age[kept]] = loss[order][kept].double()
        return past

"""What is sampled: something that knows its path, what a number of steps costs, and how good the ends are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from ...samplers import Sampler
from ...schedules import Grid, Schedule

__all__ = ["Block", "Ends", "Subject"]


@dataclass(frozen=True)
class Block:
    """Seeds first, first + 1, ..., first + count - 1: one measurement; another block shares none of them."""

    first: int
    count: int

    @property
    def seeds(self) -> range:
        return range(self.first, self.first + self.count)


@dataclass(frozen=True)
class Ends:
    """What a sampler made of one block of seeds.

    ode: root mean square of the distance to the exact ends of the ODE from the same noise; None of a stochastic sampler, which follows
    another path. law: distance of all ends together to the data; None where there are no data to compare with. evaluations: per picture,
    the mean of what was really spent. diverged: how many left every range. failed: why there is nothing, in words, or None.
    """

    ode: float | None
    law: float | None
    evaluations: float
    diverged: int = 0
    failed: str | None = None


class Subject(Protocol):
    """A model to sample, and its truth. kept: (name, make) -> a tensor that is made once."""

    kept: Callable[[str, Callable[[], Tensor]], Tensor]

    @property
    def schedule(self) -> Schedule: ...

    @property
    def grid(self) -> Grid:
        """Its own levels."""
        ...

    @property
    def measures(self) -> dict[str, str]:
        """Those of "ode" and "law" that it can measure, each in words with its unit."""
        ...

    @property
    def about(self) -> dict[str, Any]:
        """Everything that its numbers depend on beside sampler, grid, steps and seeds; JSON-able."""
        ...

    def cost(self, sampler: Sampler, grid: Grid, steps: int) -> int:
        """Evaluations of the network per picture, all branches of the guidance together."""
        ...

    def ends(self, sampler: Sampler, grid: Grid, steps: int, block: Block) -> Ends:
        """Sample a block, and measure it."""
        ...

    def exact(self, block: Block) -> dict[str, Any]:
        """What the exact ends of the ODE come to on the subject's own grid: "law", where it has one, and how exact they are ("error")."""
        ...

"""What the cells of a comparison share, what they will cost, and what comes of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .settings import Cell

__all__ = ["Cost", "Outcome", "Shared"]


@dataclass(frozen=True)
class Shared:
    """What all cells share beside their settings.

    Args:
        count: pictures per cell and set of seeds, >= 1.
        sets: sets of seeds, each of `count` seeds, one after the other, >= 1.
        near: of how many pictures of each set the distance to the fine solution is taken.
        fine_steps: of the fine solution; 0: none.
        brownian: noise is that of one Brownian motion, where any is drawn.
        batch, strict, retries, mark: as `Model.sample` has them.
        computed: what else makes the numbers, such as attention: ...; plain data.
        allow: packages beside Sfumato whose classes may be named.

    Raises:
        ValueError: for numbers out of range.
    """

    count: int = 64
    sets: int = 1
    near: int = 16
    fine_steps: int = 1000
    brownian: bool = False
    batch: int = 64
    strict: bool = False
    retries: int = 8
    mark: bool = False
    computed: Mapping[str, Any] = field(default_factory=dict)
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, least in (("count", 1), ("sets", 1), ("near", 1), ("fine_steps", 0), ("batch", 1), ("retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: >= {least}")


@dataclass(frozen=True)
class Cost:
    """What a comparison will take.

    cells: of them. unsupported: that can't be sampled, as far as is known. cached: that are there. evaluations: of the network in all that
    is not there, filters and retries not counted. fine: of these for fine solutions. done: that were made before.
    """

    cells: int
    unsupported: int
    cached: int
    evaluations: int
    fine: int


@dataclass(frozen=True)
class Outcome:
    """A cell that is finished.

    cell: which. state: "made", "diverged" (some pictures, or all) or "unsupported". problem: why it is not simply made. measured: by
    measure, one number per set of seeds. branches: evaluations per picture and branch. pictures: uint8 (N, C, H, W) of the first set.
    labels: of the first set. notes: what was warned of. settings: as written into pictures. cached: whether no network was asked.
    no_distance: why there is no distance to a fine solution. counts: of how many pictures a measure is, where filters may leave out some.
    """

    cell: Cell
    state: str
    problem: str = ""
    measured: Mapping[str, Sequence[float]] = field(default_factory=dict)
    branches: Mapping[str, float] = field(default_factory=dict)
    pictures: Tensor | None = None
    pictured: Tensor | None = None
    labels: Tensor | None = None
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    cached: bool = False
    no_distance: str = ""
    diverged: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

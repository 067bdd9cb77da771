"""What a bench is: the rows it has, the peers it knows, the goals it is judged by, and the function that measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from .goals import Goal
from .sheet import Sheet

__all__ = ["Ask", "Kind"]


@dataclasses.dataclass(frozen=True)
class Ask:
    """What to measure.

    only: one of the kind's names, or None: all (that take no minutes). against: peers to measure beside ours. quick: a tiny version, to see
    whether it runs. compile: compiled variants, too. growth: how cost grows, too. device: cpu or cuda.
    """

    only: str | None = None
    against: tuple[str, ...] = ()
    quick: bool = False
    compile: bool = False
    growth: bool = False
    device: str = "cpu"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A bench.

    measure: measures what is asked, a row of the sheet at a time. names: what `only` may name. peers: what `against` may name.
    goals: limits on its cells. takes: which of growth, compile and cuda (a device) it knows.
    """

    measure: Callable[[Ask, Sheet], None]
    names: Sequence[str] = ()
    peers: Sequence[str] = ()
    goals: Sequence[Goal] = ()
    takes: Sequence[str] = ()

"""Who may be called the best within a budget, by the one rule of the house, and each sampler's best grid."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ...diffusion.measuring import Spread, leaders
from .cells import Line

__all__ = ["Named", "best_grids", "named", "values_of"]


@dataclass(frozen=True)
class Named:
    """Who may be the best.

    measure: "ode" or "law". budget: evaluations. lines: the best mean first; one: a winner; several: not told apart. compared: of how many.
    """

    measure: str
    budget: int
    lines: tuple[Line, ...]
    compared: int

    @property
    def won(self) -> bool:
        """Whether one is told apart from others; one that nothing was compared with won nothing."""
        return len(self.lines) == 1 and self.compared > 1


def values_of(line: Line, measure: str) -> Spread | None:
    """Its numbers, one per block of seeds; None where the measure says nothing about it, or something went wrong.

    Args:
        line: any.
        measure: "ode" or "law".
    """
    values = [getattr(e, measure) for e in line.ends]
    if not values or line.trouble or any(v is None or not math.isfinite(v) for v in values):
        return None
    return Spread(tuple(values))


def named(lines: Sequence[Line], measure: str, budget: int) -> Named:
    """Of all samplers on all grids within a budget those that may be the best, paired by seeds.

    Args:
        lines: of `measure`.
        measure: "ode" or "law".
        budget: evaluations.
    """
    own = {line.name: line for line in lines if line.budget == budget}
    values = {name: found.values for name, line in own.items() if (found := values_of(line, measure)) is not None}
    return Named(measure, budget, tuple(own[name] for name in leaders(values)) if values else (), len(values))


def best_grids(lines: Sequence[Line], measure: str) -> list[Line]:
    """Per sampler and budget its line on the grid of the best mean: what a curve shows. Where all failed, none.

    Args:
        lines: of `measure`.
        measure: "ode" or "law".
    """
    found: dict[tuple[str, int], tuple[float, Line]] = {}
    for line in lines:
        values = values_of(line, measure)
        if values is not None:
            mean, key = statistics.fmean(values.values), (line.sampler, line.budget)
            if key not in found or mean < found[key][0]:
                found[key] = mean, line
    return [line for _, line in found.values()]

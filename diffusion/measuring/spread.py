"""Numbers that were measured several times, and what may be said of their differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Spread", "leaders"]

_FEWEST = 3


@dataclass(frozen=True)
class Spread:
    """One quantity, measured once per seed.

    Args:
        values: one per seed, at least one.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("values is empty; allowed: one per seed")

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float:
        """Standard deviation over the seeds; nan of a single one, of which nothing is known."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def __str__(self) -> str:
        return f"{self.mean:.4g}" if len(self.values) < 2 else f"{self.mean:.4g} ± {self.std:.2g}"


def leaders(measured: Mapping[str, Sequence[float]], lower: bool = True) -> list[str]:
    """Who may be the best: the best mean, and all that are not told apart from it.

    Where the same seeds were measured, the differences are paired, seed by seed: another is told apart only where its mean difference from
    the best is more than two standard deviations of the differences away from zero. Of two that are equal, three seeds call a winner in 7
    of 100 cases, four in 3, five in 1. Two would in 22, so with fewer than three nothing is told apart.

    Args:
        measured: by name, one number per seed, the same seeds in the same order; a name with a number that is not finite leads nothing.
        lower: whether less is better.

    Returns:
        names, the best mean first; one name: a winner; several: no winner may be called; none: nothing finite was measured.

    Raises:
        ValueError: for names with different numbers of seeds, or none.
    """
    counts = {len(values) for values in measured.values()}
    if len(counts) > 1 or counts == {0}:
        raise ValueError(f"measured has {sorted(counts)} seeds; allowed: the same number, >= 1, for every name")
    sign = 1.0 if lower else -1.0
    finite = {name: [sign * v for v in values] for name, values in measured.items() if all(map(math.isfinite, values))}
    order = sorted(finite, key=lambda name: statistics.fmean(finite[name]))
    if not order:
        return []
    best = finite[order[0]]
    found = [order[0]]
    for name in order[1:]:
        differences = [v - b for v, b in zip(finite[name], best, strict=True)]
        if len(differences) < _FEWEST or statistics.fmean(differences) <= 2 * statistics.stdev(differences):
            found.append(name)
    return found

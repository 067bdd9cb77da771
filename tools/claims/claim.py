"""What a claim is: a promise of a paper, the cells that re-measure it, and how they are judged."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...diffusion import Recipe

__all__ = ["FAILED", "HELD", "UNDECIDED", "Cells", "Claim", "Finding", "plus_minus", "verdict", "weakest"]

HELD, FAILED, UNDECIDED = "held", "did not hold", "within the noise"

# what was measured: cells[variant][seed] is the raw numbers of one run
Cells = Mapping[str, Mapping[int, Mapping[str, Any]]]


@dataclass(frozen=True)
class Finding:
    """What the cells say.

    Args:
        values: one number per seed: above 0 where the promise held for that seed.
        ours: what to show beside the paper's figure.
        verdict: of `verdict(values)`.
        notes: other numbers that explain it, JSON-able.
    """

    values: list[float]
    ours: str
    verdict: str
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A promise of a paper that can be measured again here.

    Args:
        name: as on the command line.
        paper: authors and year; ours is Sfumato.
        arxiv: number of the paper; empty where there is none.
        promise: what the paper says, in one sentence.
        figure: the paper's own figure, at its scale.
        measurement: claims of one measurement share their cells.
        variants: what is compared; each is trained once per seed.
        recipe: (variant, seed, quick) -> what is trained; quick: in a second.
        measure: (run folder, recipe) -> the raw numbers of a trained cell, JSON-able.
        judge: all cells -> what they say.
        panels: all cells -> what to draw, see plots.draw_panels.
        quick_variants: those of the tiny version; empty: all.
        sheet: all cells -> pictures to draw, see plots.draw_sheet; None: none.
        trains: whether a network is trained; if not, only data and seed of the recipe count, and there is no run folder.
        keeps_runs: whether trained runs are kept, so that claims of the same recipe train once; a cell's time has the training in it.
    """

    name: str
    paper: str
    arxiv: str
    promise: str
    figure: str
    measurement: str
    variants: Sequence[str]
    recipe: Callable[[str, int, bool], Recipe]
    measure: Callable[[Path, Recipe], dict[str, Any]]
    judge: Callable[[Cells], Finding]
    panels: Callable[[Cells], list[dict[str, Any]]]
    quick_variants: Sequence[str] = ()
    sheet: Callable[[Cells], dict[str, Any]] | None = None
    trains: bool = True
    keeps_runs: bool = False

    @property
    def command(self) -> str:
        """What measures it again."""
        return f"sfumato claims {self.name}"


def verdict(values: Sequence[float]) -> str:
    """Whether a promise held: only where its mean over the seeds is more than two standard deviations away from no effect.

    The verdict is on the direction of the effect, not on its size. For three seeds the rule errs in about one case of 27 where
    there is no effect (t = 2 sqrt 3, two degrees of freedom, one side).

    Args:
        values: one per seed, at least 2; 0 is no effect, above 0 as promised.
    """
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    if abs(mean) > 2 * spread:
        return HELD if mean > 0 else FAILED
    # the same nothing in every seed is a measurement of nothing, not noise
    return FAILED if mean == spread == 0 else UNDECIDED


def weakest(parts: Mapping[str, Sequence[float]], ours: str, notes: Mapping[str, Any]) -> Finding:
    """The finding of a promise with several parts, which holds where each of them does: per seed the smallest effect counts.

    Args:
        parts: by name, an effect per seed, all in the same unit, such as logarithms of ratios; above 0 as promised.
        ours, notes: of the finding; the notes get each part's effects and its own verdict.
    """
    values = [min(seed) for seed in zip(*parts.values(), strict=True)]
    each = {name: {"values": [round(v, 4) for v in part], "verdict": verdict(part)} for name, part in parts.items()}
    return Finding(values, ours, verdict(values), {"parts": each, **notes})


def plus_minus(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over the seeds, as text."""
    return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"

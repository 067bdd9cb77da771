"""Curves against the scale of guidance: chosen on one block of seeds, judged on another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ...diffusion import Model
from ...guidance import Guidance
from .guided import ends, in_turn, tiny_count
from .guided_measures import measured

__all__ = ["CFG_SCALES", "CHOSEN", "COUNTS", "JUDGED", "STEPS", "at_same", "best", "curve", "line", "panel", "row"]

STEPS = {"digits": 20, "mixture": 24}  # of DPM-Solver++ of order 2
COUNTS = {"digits": 1000, "mixture": 6000}
CFG_SCALES = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0)
CHOSEN, JUDGED = 1 << 20, 2 << 20  # where the seeds begin of what a setting is chosen by, and of what it is judged by


def row(
    model: Model, name: str, rule: Guidance, block: int, small: bool, weak: Model | None = None
) -> dict[str, float]:
    """The measures of one setting, and evaluations per picture.

    Args:
        model: of the digits or of the mixture.
        name: which of them.
        rule: the guidance.
        block: where the seeds begin.
        small: the quick version.
        weak: for Autoguidance.
    """
    count, steps = (tiny_count(COUNTS[name]), 4) if small else (COUNTS[name], STEPS[name])
    x, spent = ends(model, rule, steps, range(block, block + count), weak=weak)
    return {**measured(x, in_turn(model, count)), "evaluations": round(spent, 3)}


def curve(of: Callable[[float], Mapping[str, float]], scales: Sequence[float]) -> list[dict[str, float]]:
    """One row per scale."""
    return [{"scale": s, **of(s)} for s in scales]


def best(rows: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The row with the smallest distance."""
    return min(rows, key=lambda r: r["distance"])


def line(rows: Sequence[Mapping[str, float]], scale: float) -> Mapping[str, float]:
    """The row of a scale."""
    (found,) = [r for r in rows if r["scale"] == scale]
    return found


def at_same(rows: Sequence[Mapping[str, float]], what: str, wanted: float, read: str) -> float:
    """`read` where `what` is `wanted`, along a curve.

    Between neighbours both are linear, `read` in its logarithm; the first crossing from the first row counts, and where there is none the
    row that comes nearest.

    Args:
        rows: in order.
        what: that is to be equal.
        wanted: how large.
        read: what is asked for, above 0.
    """
    for a, b in pairwise(rows):
        low, high = sorted((a[what], b[what]))
        if low <= wanted <= high:
            share = 0.0 if a[what] == b[what] else (wanted - a[what]) / (b[what] - a[what])
            return math.exp((1 - share) * math.log(a[read]) + share * math.log(b[read]))
    return min(rows, key=lambda r: abs(r[what] - wanted))[read]


def panel(
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], title: str, y: str, what: str = "distance"
) -> dict[str, Any]:
    """A panel of `what` against the scale: by name, one curve per seed; lines are means, bands from the least to the most."""
    series: list[dict[str, Any]] = []
    for color, (name, runs) in enumerate(curves.items()):
        columns = [[r[what] for r in rows] for rows in zip(*runs, strict=True)]
        series.append(
            {
                "name": name, "x": [r["scale"] for r in runs[0]], "y": [statistics.fmean(c) for c in columns], "color": color,
                "style": "o-", "band": ([min(c) for c in columns], [max(c) for c in columns]),
            }
        )  # fmt: skip
    return {"title": title, "x": "scale", "y": y, "log": "xy", "ticks": CFG_SCALES, "series": series}

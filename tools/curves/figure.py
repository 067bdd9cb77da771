"""The figure: a panel per measure, a curve per sampler; who may be the best is in colour, and named where its curve ends."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..page import PALETTE
from .cells import Line
from .winners import Named, best_grids, values_of

__all__ = ["coloured", "draw_curves"]


def coloured(found: Sequence[Named], most: int = len(PALETTE)) -> list[str]:
    """Samplers that are shown in colour, the same in all panels: those that come first, then those named most often.

    Args:
        found: of `named`, all measures and budgets.
        most: as many as there are colours to tell apart.
    """
    score: dict[str, float] = {}
    for each in found:
        for place, name in enumerate(dict.fromkeys(line.sampler for line in each.lines)):
            score[name] = score.get(name, 0.0) + (2.0 if place == 0 else 1.0 / (1 + place))
    return sorted(score, key=lambda name: -score[name])[:most]


def draw_curves(
    lines: Sequence[Line], found: Sequence[Named], measures: Mapping[str, str], exact: Mapping[str, Sequence[float]], title: str,
    path: Path,
) -> None:  # fmt: skip
    """Draw quality against evaluations.

    Args:
        lines: all that was measured; a curve is a sampler on its best grid of each budget.
        found: of `named`.
        measures: by key, what it is in words.
        exact: by measure, what the exact ends of the ODE come to, one per block.
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(7.6 * len(measures), 5.6), layout="constrained")
    figure.suptitle(title, fontsize="medium")
    budgets = sorted({line.budget for line in lines})
    shown = coloured(found)
    for axes, (measure, words) in zip(
        figure.subplots(1, len(measures), squeeze=False)[0], measures.items(), strict=True
    ):
        curves: dict[str, list[Line]] = {}
        for line in sorted(best_grids(lines, measure), key=lambda each: each.budget):
            curves.setdefault(line.sampler, []).append(line)
        labels: list[tuple[float, str, str]] = []
        for name, own in sorted(curves.items(), key=lambda item: item[0] in shown):
            x, y, spread = _numbers(own, measure)
            if name not in shown:
                style = ":" if own[0].draws else "-"
                axes.plot(x, y, style, color="0.78", lw=0.9, marker=".", ms=3, zorder=1)
                continue
            color = PALETTE[shown.index(name)]
            style = ":" if own[0].draws else "-"
            axes.errorbar(x, y, yerr=spread, fmt=style, color=color, lw=1.8, marker="o", ms=4, capsize=2, zorder=3)
            labels.append((y[-1], name, color))
        best = exact.get(measure)
        if best:
            place = statistics.fmean(best)
            axes.axhline(place, color="black", ls="--", lw=0.8)
            coords = ("axes fraction", "data")
            axes.annotate("exact ends of the ODE", (0.01, place), xycoords=coords, fontsize="small", va="bottom")
        axes.set(xscale="log", yscale="log", xlabel="network evaluations spent per picture")
        axes.set_title(_wrapped(words), fontsize="small")
        least = min((e.evaluations for own in curves.values() for line in own for e in line.ends), default=min(budgets))
        axes.set_xlim(min(least, *budgets) * 0.9, max(budgets) * 1.1)
        axes.set_xticks(budgets, [str(b) for b in budgets])
        axes.xaxis.set_minor_locator(NullLocator())
        _limit(axes, curves, measure)
        _name(axes, labels)
    figure.savefig(path, dpi=120)


def _numbers(own: Sequence[Line], measure: str) -> tuple[list[float], list[float], list[float]]:
    """Evaluations spent, mean and standard deviation of a curve."""
    x, y, spread = [], [], []
    for line in own:
        values = values_of(line, measure)
        assert values is not None
        x.append(statistics.fmean(e.evaluations for e in line.ends))
        y.append(values.mean)
        spread.append(values.std if math.isfinite(values.std) else 0.0)
    return x, y, spread


def _limit(axes: Any, curves: Mapping[str, Sequence[Line]], measure: str) -> None:
    """What is far worse than the others is cut off above: a curve that is lost would press all others together."""
    means = sorted(v.mean for own in curves.values() for line in own if (v := values_of(line, measure)) is not None)
    positive = [v for v in means if v > 0]
    if positive:
        top = positive[min(len(positive) - 1, int(0.97 * len(positive)))]
        axes.set_ylim(positive[0] / 1.5, top * 1.3)


def _name(axes: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right, in the order of the ends of their curves, moved apart where they would lie on each other."""
    low, high = (math.log(v) for v in axes.get_ylim())
    places: list[tuple[float, str, str]] = []
    last = -math.inf
    for y, name, color in sorted(labels):
        at = max((math.log(max(y, 1e-300)) - low) / (high - low), last + 0.045, 0.0)
        places.append((at, name, color))
        last = at
    over = max(0.0, last - 0.99)
    for at, name, color in places:
        where = (1.01, at - over)
        axes.annotate(name, where, xycoords="axes fraction", color=color, size="small", va="center", clip_on=False)


def _wrapped(text: str, width: int = 70) -> str:
    return "\n".join(textwrap.wrap(text, width))

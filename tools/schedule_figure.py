"""The figure of `inspect`: a forward process in four panels, together in one picture or each alone for a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from .schedule_lines import DRAWN, PANELS, Ink, power

__all__ = ["PANELS", "draw_schedule", "schedule_panel", "schedule_picture"]

# one panel alone, in points, of which four are three pixels of a page: letters of 11 pixels, a width that fits a telephone
_WIDTH, _HEIGHT, _LETTERS, _LINE = 247.0, 150.0, 8.5, 12.5
_LEFT, _RIGHT, _TOP, _BOTTOM = 32.0, 6.0, 6.0, 30.0


def _quiet(axes: Axes, ink: Ink) -> None:
    """Axes that stand back behind what is drawn in them."""
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(color=ink.soft, linewidth=0.6)
    axes.tick_params(colors=ink.soft, width=0.6, length=3, which="both")
    axes.xaxis.label.set_color(ink.soft)
    axes.title.set_color(ink.ink)


def schedule_panel(curves: Mapping[str, Any], panel: str, ink: str = "black", soft: str = "#6b6b70") -> Figure:
    """One panel alone, without a title, of a size at which its letters are read on a telephone.

    Args:
        curves: of inspect.curves.
        panel: one of `PANELS`.
        ink, soft: colours of letters, and of axes.
    """
    figure = Figure()
    axes = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    DRAWN[panel](axes, curves, Ink(ink, soft))
    _quiet(axes, Ink(ink, soft))
    handles, labels = axes.get_legend_handles_labels()
    rows = _rows(labels)
    head = _TOP + _LINE * rows + 4
    height = head + _HEIGHT + _BOTTOM
    figure.set_size_inches(_WIDTH / 72, height / 72)
    axes.set_position((_LEFT / _WIDTH, _BOTTOM / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, _HEIGHT / height))
    ticks = {1: (0, 0.25, 0.5, 0.75, 1), 15: (-10, 0, 10), 20: (-20, -10, 0, 10, 20)}[int(axes.get_xlim()[1])]
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5))
    _ticks(axes, soft)
    figure.legend(
        handles, labels, loc="upper left", bbox_to_anchor=(0.0, 1.0), ncols=-(-len(labels) // rows), frameon=False,
        fontsize=_LETTERS, labelcolor=ink, borderaxespad=0.2, borderpad=0.1, labelspacing=0.25, columnspacing=1.0,
        handlelength=1.8, handletextpad=0.5,
    )  # fmt: skip
    return figure


def _ticks(axes: Axes, soft: str) -> None:
    """Ticks and their labels, as one set of lines and plain text: an axis that lays itself out takes half of the time of a panel."""
    width = _WIDTH - _LEFT - _RIGHT
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    across, up = ([float(v) for v in axis.get_majorticklocs()] for axis in (axes.xaxis, axes.yaxis))
    log = axes.get_yscale() == "log"
    rise = (lambda v: np.log(v / bottom) / np.log(top / bottom)) if log else (lambda v: (v - bottom) / (top - bottom))
    xs = [((v - left) / (right - left), f"{v:g}") for v in across if left <= v <= right]
    digits = max((len(f"{v:.6g}".partition(".")[2]) for v in up), default=0)
    ys = [(rise(v), power(v) if log else f"{v:.{digits}f}") for v in up if bottom <= v <= top]
    lines = [[(x, 0), (x, -3 / _HEIGHT)] for x, _ in xs] + [[(0, y), (-3 / width, y)] for y, _ in ys]
    marks = LineCollection(lines, colors=soft, linewidths=0.6, transform=axes.transAxes, clip_on=False)
    axes.add_collection(marks, autolim=False)
    style: dict[str, Any] = {"transform": axes.transAxes, "color": soft, "fontsize": _LETTERS, "clip_on": False}
    for x, label in xs:
        axes.text(x, -5 / _HEIGHT, label.replace("-", "−"), ha="center", va="top", **style)
    for y, label in ys:
        axes.text(-5 / width, y, label.replace("-", "−"), ha="right", va="center_baseline", **style)
    axes.text(0.5, -17 / _HEIGHT, axes.get_xlabel(), ha="center", va="top", **style)
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)


def _rows(labels: list[str]) -> int:
    """Lines that a legend needs: as many names side by side as there is room for."""
    for columns in (3, 2):
        rows = -(-len(labels) // columns)
        widest = [max(map(len, labels[c * rows : (c + 1) * rows]), default=0) for c in range(columns)]
        if sum(0.56 * _LETTERS * n + 26 for n in widest) <= _WIDTH:
            return rows
    return len(labels)


def schedule_picture(curves: Mapping[str, Any], title: str) -> Figure:
    """All panels, two by two.

    Args:
        curves: of inspect.curves, and whether training is only `assumed`.
        title: above them.
    """
    figure, ink = Figure(figsize=(11, 7.4), layout="constrained"), Ink("#1c1c1e", "#6b6b70")
    figure.suptitle(title, color=ink.ink)
    assumed = " (assumed)" if curves.get("assumed") else ""
    titles = {
        "log-SNR": "log-SNR and the grid that samples", "alpha and sigma": "alpha and sigma",
        "density": f"density of training noise levels{assumed}",
        "weight": f"weight of the squared error ({curves['weighting']['name']}){assumed}",
    }  # fmt: skip
    places = {"log-SNR": "best", "alpha and sigma": "best", "density": "upper left", "weight": "best"}
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        DRAWN[panel](axes, curves, ink)
        _quiet(axes, ink)
        axes.set_title(titles[panel], fontsize="medium", loc="left")
        axes.legend(fontsize="small", frameon=False, labelcolor=ink.ink, loc=places[panel])
    return figure


def draw_schedule(curves: Mapping[str, Any], title: str, path: Path) -> None:
    """What `inspect` computes, as a PNG: log-SNR, alpha and sigma over t with the grid, density and weights over log-SNR.

    Args:
        curves, title: as of `schedule_picture`.
        path: of the PNG.
    """
    schedule_picture(curves, title).savefig(path, dpi=110)

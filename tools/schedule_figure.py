"""The figure of `inspect`: a forward process in four panels, together in one picture or each alone for a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from .page import PALETTE

__all__ = ["PANELS", "draw_schedule", "schedule_panel", "schedule_picture"]

PANELS = ("log-SNR", "alpha and sigma", "density", "weight")
"""Names of the panels, in the order they are read."""

DASHES = ((0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))
"""Of what is drawn beside the first line, so that nothing is told by colour alone."""

EDGE = 20.0
"""|log-SNR| beyond which nothing is drawn: there x is data or noise to nine digits."""

# one panel alone, in points, of which four are three pixels of a page: letters of 11 pixels, a width that fits a telephone
_WIDTH, _HEIGHT, _LETTERS, _LINE = 247.0, 150.0, 8.5, 12.5
_LEFT, _RIGHT, _TOP, _BOTTOM = 32.0, 6.0, 6.0, 30.0


class _Ink(NamedTuple):
    """Colours that depend on what is behind: of letters and points, and of axes and grids."""

    ink: str
    soft: str


def _finite(values: Any) -> np.ndarray:
    """Numbers with nan for what can't be drawn."""
    array = np.array(values, dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


def _log_snr(axes: Axes, curves: Mapping[str, Any], ink: _Ink) -> None:
    axes.axhline(0, color=ink.soft, lw=0.6)
    axes.plot(curves["t"], _finite(curves["log_snr"]), color=PALETTE[0], lw=1.6, label=_short(curves["name"]))
    for k, other in enumerate(curves.get("also", [])):
        dashes = DASHES[k % len(DASHES)]
        axes.plot(
            other["t"], _finite(other["log_snr"]), ls=dashes, color=_beside(k), lw=1.5, label=_short(other["name"])
        )
    inside = [(u, v) for u, v in zip(curves["grid"]["t"], curves["grid"]["log_snr"], strict=True) if abs(v) <= EDGE]
    axes.plot([u for u, _ in inside], [v for _, v in inside], "o", ms=3, color=ink.ink, label="steps of the grid")
    axes.set(xlabel="t (0 data, 1 noise)", xlim=(-0.02, 1.02))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -EDGE), min(high, EDGE))


def _sizes(axes: Axes, curves: Mapping[str, Any], ink: _Ink) -> None:
    axes.plot(curves["t"], curves["alpha"], color=PALETTE[0], lw=1.6, label="alpha (data)")
    axes.plot(curves["t"], curves["sigma"], color=PALETTE[1], lw=1.6, ls=DASHES[0], label="sigma (noise)")
    # where x grows with the noise its end is far above everything else
    if max(curves["sigma"]) > 5:
        axes.set(yscale="log", ylim=(1e-3, None))
        _powers(axes)
    _marks(axes, curves["grid"]["t"], "steps", ink)
    axes.set(xlabel="t (0 data, 1 noise)", xlim=(-0.02, 1.02))


def _density(axes: Axes, curves: Mapping[str, Any], ink: _Ink) -> None:
    at, value = np.array(curves["density"]["log_snr"]), np.array(curves["density"]["value"])
    axes.fill_between(at, value, step="mid", color=PALETTE[0], alpha=0.3, lw=0)
    axes.step(at, value, where="mid", color=PALETTE[0], lw=1.2, label="what training draws")
    for k, other in enumerate(curves.get("also", [])):
        drawn, dashes = other["density"], DASHES[k % len(DASHES)]
        label = f"{_short(other['name'], 26)}, t uniform"
        axes.plot(drawn["log_snr"], drawn["value"], ls=dashes, color=_beside(k), lw=1.5, label=label)
    # tables draw single levels: their bars are far higher than the rest, which is what there is to be seen
    top = max([_tallest(value), *(float(np.nanmax(o["density"]["value"])) for o in curves.get("also", []))])
    inside = [v for v in curves["grid"]["log_snr"] if abs(v) <= EDGE]
    _marks(axes, inside, "steps of the grid", ink)
    axes.set(xlabel="log-SNR (left noise, right data)", xlim=(-EDGE, EDGE), ylim=(0, 1.08 * top))


def _marks(axes: Axes, places: list[float], label: str, ink: _Ink) -> None:
    """Places along the lower edge."""
    axes.plot(
        places, np.full(len(places), 0.03), "|", color=ink.ink, ms=7, transform=axes.get_xaxis_transform(), label=label
    )


def _tallest(value: np.ndarray) -> float:
    """The height of a histogram without the bar or two that hold what lies at an end."""
    positive = np.sort(value[value > 0])
    usual = positive[-3] if len(positive) > 20 else positive[-1]
    return float(positive[-1] if positive[-1] < 2 * usual else usual)


def _weights(axes: Axes, curves: Mapping[str, Any], ink: _Ink) -> None:
    w = curves["weighting"]
    axes.plot(w["log_snr"], w["output"], color=PALETTE[0], lw=1.8, label=f"on the output ({w['row']})")
    axes.plot(w["log_snr"], w["eps"], color=PALETTE[1], lw=1.4, ls=DASHES[0], label="on eps")
    axes.plot(w["log_snr"], w["x0"], color=PALETTE[2], lw=1.4, ls=DASHES[1], label="on x0")
    axes.set(xlabel="log-SNR (left noise, right data)", yscale="log", xlim=(-15, 15))
    shown = np.array([v for key in ("output", "eps", "x0") for v in w[key] if 0 < v < np.inf])
    if len(shown):
        # a weight that vanishes would leave nothing of the others; a constant one has no height of its own
        most, least = float(shown.max()), max(float(shown.min()), float(shown.max()) * 1e-14)
        axes.set_ylim(*((least / 3, most * 3) if most < 10 * least else (least / 1.5, most * 1.5)))
    _powers(axes)


def _powers(axes: Axes) -> None:
    """A few powers of ten beside an axis, as letters: formulas take longer to set than all the rest to draw."""
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))


def _power(value: float) -> str:
    if 1e-2 <= value <= 100:
        return f"{value:g}"
    return "10" + str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


_DRAWN: dict[str, Callable[[Axes, Mapping[str, Any], _Ink], None]] = dict(
    zip(PANELS, (_log_snr, _sizes, _density, _weights), strict=True)
)


def _beside(k: int) -> str:
    """The colour of the k-th schedule beside the first."""
    return (PALETTE[1], PALETTE[2], PALETTE[3], PALETTE[4])[k % 4]


def _short(name: str, most: int = 36) -> str:
    name = name.replace("schedule=", "").replace("()", "")
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _quiet(axes: Axes, ink: _Ink) -> None:
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
    _DRAWN[panel](axes, curves, _Ink(ink, soft))
    _quiet(axes, _Ink(ink, soft))
    handles, labels = axes.get_legend_handles_labels()
    rows = _rows(labels)
    head = _TOP + _LINE * rows + 4
    height = head + _HEIGHT + _BOTTOM
    figure.set_size_inches(_WIDTH / 72, height / 72)
    axes.set_position(
        (_LEFT / _WIDTH, _BOTTOM / height, (_WIDTH - _LEFT - _RIGHT) / _WIDTH, _HEIGHT / height)
    )
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
    ys = [(rise(v), _power(v) if log else f"{v:.{digits}f}") for v in up if bottom <= v <= top]
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
    figure, ink = Figure(figsize=(11, 7.4), layout="constrained"), _Ink("#1c1c1e", "#6b6b70")
    figure.suptitle(title, color=ink.ink)
    assumed = " (assumed)" if curves.get("assumed") else ""
    titles = {
        "log-SNR": "log-SNR and the grid that samples", "alpha and sigma": "alpha and sigma",
        "density": f"density of training noise levels{assumed}",
        "weight": f"weight of the squared error ({curves['weighting']['name']}){assumed}",
    }  # fmt: skip
    places = {"log-SNR": "best", "alpha and sigma": "best", "density": "upper left", "weight": "best"}
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        _DRAWN[panel](axes, curves, ink)
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

"""What the figure of `inspect` shows: the lines of each panel, without the panel's size and letters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from .page import PALETTE

__all__ = ["DRAWN", "PANELS", "Ink", "power"]

PANELS = ("log-SNR", "alpha and sigma", "density", "weight")
"""Names of the panels, in the order they are read."""

DASHES = ((0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1, 1.5)))
"""Of what is drawn beside the first line, so that nothing is told by colour alone."""

EDGE = 20.0
"""|log-SNR| beyond which nothing is drawn: there x is data or noise to nine digits."""


class Ink(NamedTuple):
    """Colours that depend on what is behind: of letters and points, and of axes and grids."""

    ink: str
    soft: str


def _finite(values: Any) -> np.ndarray:
    """Numbers with nan for what can't be drawn."""
    array = np.array(values, dtype=float)
    return np.where(np.isfinite(array), array, np.nan)


def _log_snr(axes: Axes, curves: Mapping[str, Any], ink: Ink) -> None:
    axes.axhline(0, color=ink.soft, lw=0.6)
    axes.plot(curves["t"], _finite(curves["log_snr"]), color=PALETTE[0], lw=1.6, label=_short(curves["name"]))
    for k, other in enumerate(curves.get("also", [])):
        dashes = DASHES[k % len(DASHES)]
        axes.plot(
            other["t"], _finite(other["log_snr"]), ls=dashes, color=_beside(k), lw=1.5, label=_short(other["name"])
        )
    inside = [(u, v) for u, v in zip(curves["grid"]["t"], curves["grid"]["log_snr"], strict=True) if abs(v) <= EDGE]
    axes.plot(
        [u for u, _ in inside],
        [v for _, v in inside],
        "o",
        ms=3 if len(inside) <= 60 else 1.5,
        color=ink.ink,
        label="steps of the grid",
    )
    axes.set(xlabel="t (0 data, 1 noise)", xlim=(-0.02, 1.02))
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, -EDGE), min(high, EDGE))


def _sizes(axes: Axes, curves: Mapping[str, Any], ink: Ink) -> None:
    axes.plot(curves["t"], curves["alpha"], color=PALETTE[0], lw=1.6, label="alpha (data)")
    axes.plot(curves["t"], curves["sigma"], color=PALETTE[1], lw=1.6, ls=DASHES[0], label="sigma (noise)")
    # where x grows with the noise its end is far above everything else
    if max(curves["sigma"]) > 5:
        axes.set(yscale="log", ylim=(1e-3, None))
        _powers(axes)
    _marks(axes, curves["grid"]["t"], "steps", ink)
    axes.set(xlabel="t (0 data, 1 noise)", xlim=(-0.02, 1.02))


def _density(axes: Axes, curves: Mapping[str, Any], ink: Ink) -> None:
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


def _marks(axes: Axes, places: list[float], label: str, ink: Ink) -> None:
    """Places along the lower edge."""
    axes.plot(
        places, np.full(len(places), 0.03), "|", color=ink.ink, ms=7, mew=1.0 if len(places) <= 60 else 0.3, label=label,
        transform=axes.get_xaxis_transform(),
    )  # fmt: skip


def _tallest(value: np.ndarray) -> float:
    """The height of a histogram without the bar or two that hold what lies at an end."""
    positive = np.sort(value[value > 0])
    usual = positive[-3] if len(positive) > 20 else positive[-1]
    return float(positive[-1] if positive[-1] < 2 * usual else usual)


def _weights(axes: Axes, curves: Mapping[str, Any], ink: Ink) -> None:
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
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: power(value)))


def power(value: float) -> str:
    """A power of ten as plain letters."""
    if 1e-2 <= value <= 100:
        return f"{value:g}"
    return "10" + str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


DRAWN: dict[str, Callable[[Axes, Mapping[str, Any], Ink], None]] = dict(
    zip(PANELS, (_log_snr, _sizes, _density, _weights), strict=True)
)
"""By panel, what draws its lines into axes."""


def _beside(k: int) -> str:
    """The colour of the k-th schedule beside the first."""
    return (PALETTE[1], PALETTE[2], PALETTE[3], PALETTE[4])[k % 4]


def _short(name: str, most: int = 36) -> str:
    name = name.replace("schedule=", "").replace("()", "")
    return name if len(name) <= most else f"{name[: most - 1]}…"

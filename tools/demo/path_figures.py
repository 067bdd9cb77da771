"""What a path looks like in numbers, step by step: panels that share one axis, so that one line marks the same step in all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from ..page import PALETTE
from .path import Path
from .svg import INK, SOFT, as_svg

__all__ = ["Panel", "panels", "place"]

# where the axes are within a panel, as shares of its width and height
_LEFT, _RIGHT, _BOTTOM, _TOP = 0.14, 0.97, 0.18, 0.965
_LINES = (
    {"color": PALETTE[0], "ls": "-", "marker": "o", "ms": 3.2},
    {"color": PALETTE[1], "ls": "--", "marker": "s", "ms": 3.2, "mfc": "none"},
)


class Panel(NamedTuple):
    """A figure: name, a sentence about it, and its SVG."""

    name: str
    about: str
    svg: str


def place(index: int, steps: int) -> float:
    """Where a shot stands in every panel, as a share of the panel's width.

    Args:
        index: of the shot, 0 to steps.
        steps: of the path.
    """
    return _LEFT + (_RIGHT - _LEFT) * (index + 0.5) / (steps + 1)


def panels(paths: Sequence[Path], data_std: float | None = None) -> list[Panel]:
    """All figures of one path, or of two side by side.

    Args:
        paths: the guided one first.
        data_std: how large the data are, as the model was told; None: it was not.
    """
    first = paths[0]
    steered = [shot.pull is not None and shot.pull.steered for shot in first.shots]
    guided = any(steered)
    shade = "; shaded: the steps that are guided" if guided else ""
    found = [
        _panel("Noise level", f"log-SNR where each step begins: where the grid spends its steps{shade}.", paths[:1],
               [_log_snrs(first)], steered, wanted="log-SNR"),
        _panel("Change of mind", "How far predicted x0 moves from one step to the next, root mean square.", paths,
               [[shot.change for shot in path.shots] for path in paths]),
    ]  # fmt: skip
    if any(shot.pull is not None for shot in first.shots):
        sizes = [None if shot.pull is None else shot.pull.size for shot in first.shots]
        about = "Guided prediction of x0 minus the conditional one, at the same noisy picture, root mean square"
        none = "" if guided else " No step of this path was guided."
        found.append(_panel("Pull of the guidance", f"{about}{shade}.{none}", paths[:1], [sizes], steered))
    for k, known in enumerate(first.scores):
        if known.speaks:
            lines = [
                next((s.so_far for s in path.scores if s.name == known.name), []) if path is not first else known.so_far
                for path in paths
            ]
            where = "" if all(known.inside) else "; shaded: the steps it looks at"
            limit = [v for v in known.bounds if math.isfinite(v)]
            bound = f"; dotted: {_bounds(known.bounds)}" if limit else "; it has no threshold, so it keeps all"
            about = f"What the filter would say after each step, of the steps so far{where}{bound}."
            found.append(_panel(f"Filter {k + 1}: {known.name}", about, paths, lines, known.inside, limit))
    about = "Root mean square of predicted x0"
    said = f"; dotted: the data's, {data_std:g}, as the model was told" if data_std else ""
    missing = "" if data_std else "; this model was not told how large its data are"
    found.append(
        _panel("Size", f"{about}{said}{missing}.", paths, [[shot.size for shot in path.shots] for path in paths],
               levels=[data_std] if data_std else [])
    )  # fmt: skip
    return found


def _bounds(bounds: tuple[float, float]) -> str:
    names = [f"{word} {v:.4g}" for word, v in zip(("at least", "at most"), bounds, strict=True) if math.isfinite(v)]
    return f"it keeps {' and '.join(names)}"


def _log_snrs(path: Path) -> list[float]:
    return [float(shot.level.log_snr) for shot in path.shots]


def _panel(
    name: str, about: str, paths: Sequence[Path], lines: Sequence[Sequence[float | None]], shaded: Sequence[bool] = (),
    levels: Sequence[float] = (), wanted: str = "",
) -> Panel:  # fmt: skip
    steps = paths[0].steps
    figure = Figure(figsize=(4.2, 2.15))
    axes = figure.add_axes((_LEFT, _BOTTOM, _RIGHT - _LEFT, _TOP - _BOTTOM))
    for on, run in groupby(enumerate(shaded), key=lambda each: each[1]):
        at = [i for i, _ in run]
        if on:
            axes.axvspan(at[0] + 0.5, at[-1] + 1.5, color=SOFT, alpha=0.16, lw=0)
    for path, values, style in zip(paths, lines, _LINES, strict=False):
        _line(axes, values, {**style, "label": path.name})
    for level in levels:
        axes.axhline(level, color=INK, ls=":", lw=1.1)
    axes.set_xlim(0.5, steps + 1.5)
    ticks = _ticks(steps)
    axes.set_xticks([*ticks, steps + 1], [*(f"{v}" for v in ticks), "end"])
    axes.set_xlabel("step", color=SOFT, labelpad=1, fontsize=8.5)
    axes.margins(y=0.12)
    if not wanted:  # sizes begin at nothing
        low = min((v for values in lines for v in values if v is not None and math.isfinite(v)), default=0.0)
        axes.set_ylim(bottom=min(0.0, low * 1.1))
    axes.yaxis.set_major_formatter(lambda v, _: f"{v:.4g}".replace("-", "−"))
    axes.grid(axis="y", color=SOFT, alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    # said here, since matplotlib's own settings are those of the whole process, where others draw, too
    axes.spines[["left", "bottom"]].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelsize=8.5)
    if len(lines) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=8, handlelength=2.6, borderaxespad=0.1)
    return Panel(name, about, as_svg(figure, f"{name}. {about}"))


def _line(axes: Any, values: Sequence[float | None], style: dict[str, Any]) -> None:
    """A line over steps; what is infinite stands as a triangle at the edge, what is not there is left out."""
    x = [i + 1 for i, v in enumerate(values) if v is not None]
    y = [v for v in values if v is not None]
    finite = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(b)]
    style = {"lw": 1.4, **style}
    if len(finite) > 40:  # marks would hide the line
        style["marker"] = ""
    axes.plot([a for a, _ in finite], [b for _, b in finite], **style)
    edge = axes.get_xaxis_transform()
    for a, b in zip(x, y, strict=True):
        if math.isinf(b):
            up = b > 0
            axes.plot(
                [a],
                [0.97 if up else 0.03],
                "^" if up else "v",
                transform=edge,
                color=style["color"],
                ms=5,
                clip_on=False,
            )


def _ticks(steps: int) -> list[int]:
    """Numbers of steps that are written at the axis, none of them beside its end."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100) if steps / n <= 10)
    found = [1, *range(every, steps + 1, every)] if every > 1 else list(range(1, steps + 1))
    return [v for v in found if v == 1 or (v - 1 >= every * 0.6 and steps + 1 - v >= every * 0.6)]

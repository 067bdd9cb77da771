"""The figure of a run: what metrics.jsonl says, in six panels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..diffusion.buckets import EDGES

__all__ = ["draw_run"]

# of Okabe and Ito, told apart with any colour vision; each line has its own style as well
_BLACK, _BLUE, _ORANGE, _GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"

Lines = Sequence[Mapping[str, Any]]


def draw_run(lines: Lines, path: Path) -> None:
    """Losses, errors per log-SNR, gradient and noise scale, learning rate, speed and memory, and sizes within the network, over steps.

    Whatever a run did not record is left out; a panel without anything says so.

    Args:
        lines: of metrics.jsonl, at least one.
        path: of the PNG.

    Raises:
        ValueError: for no lines.
    """
    if not lines:
        raise ValueError(
            f"{path}: metrics.jsonl has no lines, so there is nothing to draw; train at least log_every steps"
        )
    figure = Figure(figsize=(15, 8.5), layout="constrained")
    for axes, draw in zip(figure.subplots(2, 3).flat, _PANELS, strict=True):
        draw(axes, lines)
        axes.set_xlim(*_span(lines))
        axes.set_xlabel("optimizer step")
        axes.grid(visible=True, lw=0.3, alpha=0.6)
    figure.savefig(path, dpi=100)


def _span(lines: Lines) -> tuple[float, float]:
    steps = [float(line["step"]) for line in lines]
    margin = 0.02 * (max(steps) - min(steps)) or 1.0
    return min(steps) - margin, max(steps) + margin


def _series(lines: Lines, *keys: str) -> tuple[list[float], list[float]]:
    """Steps and values of a key, or of a key within a key, where it is a finite number."""
    steps, values = [], []
    for line in lines:
        value: Any = line
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and math.isfinite(value):
            steps.append(float(line["step"]))
            values.append(float(value))
    return steps, values


def _plot(axes: Axes, lines: Lines, keys: tuple[str, ...], name: str, color: str, style: str = "-") -> list[float]:
    """A line of what was recorded; returns its values."""
    steps, values = _series(lines, *keys)
    if values:
        # a point for each where they are few, so that a single one is seen
        axes.plot(steps, values, style, color=color, label=name, lw=1.4, marker="o", ms=3 if len(values) <= 30 else 0)
    return values


def _finish(axes: Axes, title: str, label: str, values: Sequence[float], beside: Axes | None = None) -> None:
    """Title, scale and legend; a logarithm where all values are above zero and differ by more than a factor of three."""
    axes.set_title(title)
    axes.set_ylabel(label)
    handles, names = axes.get_legend_handles_labels()
    if beside is not None:
        more, others = beside.get_legend_handles_labels()
        handles, names = handles + more, names + others
    if not handles:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", va="center", color="grey")
        axes.set_yticks([])
        return
    if values and min(values) > 0 and max(values) > 3 * min(values):
        axes.set_yscale("log")
    (beside or axes).legend(handles, names, fontsize="small", framealpha=0.85)


def _beside(axes: Axes, lines: Lines, keys: tuple[str, ...], name: str, label: str) -> Axes | None:
    """A second axis on the right, where there is something to show."""
    if not _series(lines, *keys)[1]:
        return None
    other = axes.twinx()
    values = _plot(other, lines, keys, name, _ORANGE, "--")
    other.set_ylabel(label, color=_ORANGE)
    other.tick_params(axis="y", colors=_ORANGE)
    if min(values) > 0 and max(values) > 3 * min(values):
        other.set_yscale("log")
    return other


def _losses(axes: Axes, lines: Lines) -> None:
    values = _plot(axes, lines, ("loss",), "training", _BLACK)
    values += _plot(axes, lines, ("validation", "loss"), "validation", _ORANGE, "--")
    values += _plot(axes, lines, ("edm_loss",), "training, EDM weighting", _BLUE, "-.")
    values += _plot(axes, lines, ("validation", "edm_loss"), "validation, EDM weighting", _GREEN, ":")
    skipped = [float(line["step"]) for line in lines if line.get("skipped")]
    for i, step in enumerate(skipped):
        axes.axvline(step, color="grey", lw=0.8, ls=":", label="steps were skipped" if i == 0 else None)
    _finish(axes, "loss", "loss", values)


def _buckets(axes: Axes, lines: Lines) -> None:
    names = [
        f"below {EDGES[0]:g}", *(f"{a:g} to {b:g}" for a, b in itertools.pairwise(EDGES)), f"above {EDGES[-1]:g}",
    ]  # fmt: skip
    colors, shown = mpl.colormaps["viridis"](np.linspace(0, 0.95, len(names))), []
    for k, name in enumerate(names):
        at, mean = [], []
        for line in lines:
            seen = line.get("buckets") or {}
            count, total = (seen.get(key) or [] for key in ("count", "error"))
            if len(count) == len(total) == len(names) and count[k] > 0 and total[k] is not None:
                at.append(float(line["step"]))
                mean.append(float(total[k]) / float(count[k]))
        if at:
            axes.plot(
                at,
                mean,
                color=colors[k],
                ls=("-", "--")[k % 2],
                label=name,
                lw=1.2,
                marker="o",
                ms=2 if len(at) <= 30 else 0,
            )
            shown += mean
    _finish(axes, "error of the output per log-SNR", "mean squared error", shown)
    if shown:
        axes.legend(title="log-SNR", fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _gradient(axes: Axes, lines: Lines) -> None:
    values = _plot(axes, lines, ("gradient_norm",), "norm, before clipping", _BLACK)
    other = _beside(axes, lines, ("noise_scale",), "noise scale", "noise scale, samples")
    _finish(axes, "gradient", "norm", values, other)


def _rate(axes: Axes, lines: Lines) -> None:
    _plot(axes, lines, ("lr",), "learning rate", _BLACK)
    _finish(axes, "learning rate", "rate", [])
    if axes.lines:
        axes.set_ylim(0, None)


def _speed(axes: Axes, lines: Lines) -> None:
    values = _plot(axes, lines, ("images_per_second",), "images / s", _BLACK)
    other = _beside(axes, lines, ("memory_mib",), "peak memory", "MiB")
    _finish(axes, "speed and memory", "images / s", [], other)
    for side, held in ((axes, values), (other, _series(lines, "memory_mib")[1])):
        if side is not None and held:
            side.set(yscale="linear", ylim=(0, 1.15 * max(held)))
    if other is not None:  # the lines are in the upper half
        legend = other.get_legend()
        assert legend is not None
        legend.set_loc("lower right")


def _sizes(axes: Axes, lines: Lines) -> None:
    values = _plot(axes, lines, ("attention_logit",), "largest attention logit", _ORANGE, "--")
    values += _plot(axes, lines, ("activation", "max"), "largest activation", _BLACK)
    values += _plot(axes, lines, ("activation", "rms"), "activation, root mean square", _BLUE, "-.")
    _finish(axes, "sizes within the network", "largest over the blocks", values)


_PANELS: tuple[Callable[[Axes, Lines], None], ...] = (_losses, _buckets, _gradient, _rate, _speed, _sizes)

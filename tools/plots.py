"""Figures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

__all__ = ["draw_orders", "draw_panels", "draw_sheet"]


def draw_panels(panels: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Panels of lines side by side, as claims give them.

    Args:
        panels: each with title, x and y (labels), series (each with x, y, and optionally name, color, a number or None for black,
            style, and band, a lower and an upper line), and optionally log ("x", "y" or "xy"), ticks (of x), names (of the
            ticks), level (a height and its name) and legend (whether to show one, True).
        title: of the figure.
        path: of the PNG.
    """
    figure = Figure(figsize=(7.5 if len(panels) == 1 else 5.5 * len(panels), 4.8), layout="constrained")
    # never broken within a mean and its spread
    lines = [line for part in title.replace(" ± ", "\u00a0±\u00a0").splitlines() for line in textwrap.wrap(part, 90)]
    figure.suptitle("\n".join(lines), fontsize="medium")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for line in panel["series"]:
            color = "black" if line.get("color") is None else f"C{line['color']}"
            axes.plot(line["x"], line["y"], line.get("style", "-"), color=color, label=line.get("name"), lw=1.3, ms=4)
            if "band" in line:
                axes.fill_between(line["x"], *line["band"], color=color, alpha=0.15, lw=0)
        if "level" in panel:
            axes.axhline(panel["level"][0], color="grey", ls=":", label=panel["level"][1])
        for axis in panel.get("log", ""):
            axes.set(**{f"{axis}scale": "log"})
        if "ticks" in panel:
            names = panel.get("names")
            tilted: dict[str, Any] = {"rotation": 35, "ha": "right"} if names else {}
            axes.set_xticks(panel["ticks"], names or [f"{v:g}" for v in panel["ticks"]], **tilted)
            axes.set_xticks([], minor=True)
        axes.set(xlabel=panel["x"], ylabel=panel["y"], title=panel["title"])
        axes.margins(y=0.12)
        if panel.get("legend", True):
            axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def draw_sheet(sheet: Mapping[str, Any], path: Path) -> None:
    """Grey pictures in labelled rows, their pixels outside the range of the data in colour, as claims give them.

    Args:
        sheet: title, columns (names), size (height and width of a picture), rows, name -> pictures, each a flat list of pixels, 1 white
            and -1 black, and optionally limit (above 1: a pixel beyond it is coloured).
        path: of the PNG.
    """
    rows, columns, size, limit = sheet["rows"], sheet["columns"], sheet["size"], sheet.get("limit")
    figure = Figure(figsize=(2.0 + 0.8 * len(columns), 0.8 + 0.83 * len(rows)), layout="constrained")
    colors = "" if limit is None else f"; blue: below -{limit:g}, red: above {limit:g}"
    figure.suptitle(f"{sheet['title']}{colors}", fontsize="medium")
    for line, (name, pictures) in zip(
        figure.subplots(len(rows), len(columns), squeeze=False), rows.items(), strict=True
    ):
        x = np.array(pictures, dtype=float).reshape(-1, size, size)
        # one that is not a number is coloured as too high
        beyond = float("inf") if limit is None else limit
        low, high = x < -beyond, ~(x <= beyond)
        colored = np.repeat((np.clip(np.nan_to_num(x), -1, 1)[..., None] + 1) / 2, 3, axis=-1)
        colored[low], colored[high] = (0.15, 0.45, 1.0), (1.0, 0.2, 0.1)
        for axes, picture, column in zip(line, colored, columns, strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            if name == next(iter(rows)):
                axes.set_title(column, fontsize="small")
        label = name if limit is None else f"{name}\n{100 * (low | high).mean():.1f} % coloured"
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")
    figure.savefig(path, dpi=100)


def draw_orders(steps: Sequence[int], panels: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """Error against steps, both in logarithms, so that a slope is an order; grey lines are of orders 1 to 4.

    Args:
        steps: of every series.
        panels: by title: by sampler, its errors.
        path: of the PNG.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    colors = mpl.colormaps["turbo"](np.linspace(0.03, 0.97, len(names)))
    columns = 2 if len(panels) > 1 else 1
    figure = Figure(figsize=(6 * columns, 4.4 * -(-len(panels) // columns)), layout="constrained")
    shown = list(figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharex=True, sharey=True).flat)
    for axes, (title, lines) in zip(shown, panels.items(), strict=False):
        for k, name in enumerate(names):
            style = ("-", "--", ":")[k % 3]
            axes.plot(steps, lines[name], style, color=colors[k], label=name, lw=1.4, marker="o", ms=2.5)
        for order in (1, 2, 3, 4):
            guide = [0.5 * (steps[0] / n) ** order for n in steps]
            axes.plot(steps, guide, color="grey", lw=0.5)
            at = (steps[-1], guide[-1])
            axes.annotate(
                f" {order}", at, (7, 0), textcoords="offset points", color="grey", fontsize="small", va="center"
            )
        axes.set(xscale="log", yscale="log", title=title, xlabel="steps", ylabel="largest error of z at the end")
        axes.set_xlim(steps[0] / 1.25, steps[-1] * 1.7)
        axes.set_xticks(steps, [str(n) for n in steps])
        axes.set_xticks([], minor=True)
    figure.legend(*shown[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)

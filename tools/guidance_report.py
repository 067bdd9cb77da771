"""What `sfumato guidance` shows: a table, a figure, and the words that use what was found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..diffusion import Cosines
from ..diffusion.measuring import leaders
from ..schedules import X0, Eps, Row, V

__all__ = ["BLOCKS", "SPACES", "adaptive_words", "does_not_pay", "draw", "nearest", "spread_of", "table"]

BLOCKS = 5
"""Into how many blocks the pictures are split that rules are verified on: who came nearer is judged against the spread over these."""

SPACES: Mapping[str, Row] = {"x0": X0(), "eps": Eps(), "v": V()}


def draw(cosines: Cosines, thresholds: Mapping[str, float], title: str, path: Path) -> bool:
    """The cosines per step, a panel per space; whether there was a library to draw with.

    Args:
        cosines: as measured.
        thresholds: by space.
        title: of the figure.
        path: of the PNG.
    """
    try:
        from .plots import draw_panels
    except ImportError:
        return False
    panels: list[dict[str, Any]] = []
    for n, name in enumerate(cosines.values):
        mean, low, high = ([max(1.0 - v, 1e-9) for v in column] for column in zip(*cosines.spread(name), strict=True))
        line = {"x": list(range(len(mean))), "y": mean, "band": (high, low), "color": n, "name": "mean, 5 to 95 %"}
        panel = {
            "title": f"in {name}",
            "x": "step",
            "y": "1 - cosine between cond and ref",
            "series": [line],
            "log": "y",
        }
        panel["ticks"] = list(range(0, len(mean), -(-len(mean) // 10)))
        if name in thresholds:
            panel["level"] = (max(1.0 - thresholds[name], 1e-9), f"threshold {thresholds[name]:.7g}")
        panels.append(panel)
    draw_panels(panels, title, path)
    return True


def spread_of(cosines: Cosines, name: str) -> list[list[float | None]]:
    """Mean, 5 and 95 percent per step; null where the space says nothing, since JSON knows no nan."""
    return [[v if math.isfinite(v) else None for v in row] for row in cosines.spread(name)]


def table(rows: Sequence[Mapping[str, Any]], count: int) -> list[str]:
    """The rules beside each other, in lines, and a word where fewer steps of CFG do better.

    Args:
        rows: each with rule, steps, evaluations and rms; the first is full guidance.
        count: pictures that it was verified on.
    """
    lines = [f"{'rule':<22}{'evaluations':>12}{'per picture':>14}{'distance to full guidance (RMS)':>34}"]
    lines += [f"{row['rule']:<22}{row['evaluations']:>12.4g}{_from_to(row):>14}{row['rms']:>34.4f}" for row in rows]
    lines += [f"verified on {count} pictures of other seeds; distances in units of the data, which are in [-1, 1]"]
    lines += [
        f"{name} does not pay here: {other} cost no more and came nearer" for name, other in does_not_pay(rows).items()
    ]
    for row in rows:
        if "Adaptive in" in row["rule"] and row["least"] <= row["steps"] + 1:
            lines.append(
                f"{row['rule']} leaves some pictures after their first step; guide more steps at the least: --least"
            )
    return lines


def _from_to(row: Mapping[str, Any]) -> str:
    return str(row["least"]) if row["least"] == row["most"] else f"{row['least']} to {row['most']}"


def does_not_pay(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The rules that save evaluations and are beaten by CFG in fewer steps, which cost no more and came nearer, each with the best such.

    Nearer is what is told apart from the rule, block by block of the same pictures, by more than two standard deviations.

    rows: see `table`, each with blocks, the RMS of blocks of pictures.
    """
    fewer = [row for row in rows if row["steps"] != rows[0]["steps"]]
    found: dict[str, str] = {}
    for row in rows:
        if "Adaptive" in row["rule"]:
            # half an evaluation is the rounding of the thresholds and of steps
            cheap = [f for f in fewer if f["evaluations"] <= row["evaluations"] + 0.5]
            better = [f for f in cheap if leaders({"row": row["blocks"], "fewer": f["blocks"]}) == ["fewer"]]
            if better:
                found[row["rule"]] = min(better, key=lambda f: f["rms"])["rule"]
    return found


def nearest(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Which Adaptive came nearest to full guidance, of those that saved something; None: none did.

    rows: see `table`.
    """
    saved = [r for r in rows if "Adaptive in" in r["rule"] and r["evaluations"] < rows[0]["evaluations"] - 0.5]
    return min(saved, key=lambda r: r["rms"])["rule"] if saved else None


def adaptive_words(scale: float, space: str, threshold: float, least: int) -> list[str]:
    """The words of `sfumato sample` for Adaptive over CFG."""
    return [
        "--guidance", "Adaptive", "--guidance.rule", "CFG", "--guidance.rule.scale", repr(scale), "--guidance.space",
        type(SPACES[space]).__name__, "--guidance.threshold", repr(threshold), "--guidance.least", str(least),
    ]  # fmt: skip

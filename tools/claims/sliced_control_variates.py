"""Control variates from a Gaussian approximation make the sliced Wasserstein distance surer at the same number of lines.

Fixed before anything was measured: pixels of digits as features, the pairs of clouds, lines, repeats, and the effect. Both clouds stay as
they are, the lines are drawn anew for every repeat, and are the same for every estimator. The effect of a control variate is the
logarithm of the mean squared error without it over that with it, about a truth of many more lines, the mean over the pairs, at the most
lines; the smaller of the two variates' effects counts. Our estimator takes each line's coefficient from the other lines,
the paper one for all.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any, Literal

import torch

from ...diffusion import Recipe
from ...diffusion.measuring import sliced_wasserstein
from .claim import Cells, Claim, Finding, plus_minus, weakest
from .drawn import VARIANTS, all_digits, drawn_recipe, drawn_rows

__all__ = ["CLAIM"]

COUNT, LINES, REPEATS, MANY = 200, (10, 30, 100), 100, 20000
CONTROLS: tuple[Literal["none", "lower", "upper"], ...] = ("none", "lower", "upper")


def _measure(_: Path, recipe: Recipe) -> dict[str, Any]:
    quick = recipe.steps == 1
    digits = all_digits()
    x, y = (digits[drawn_rows(COUNT, len(digits), recipe.seed, i)] for i in (0, 1))
    pairs = {"same law": x, "contrast 0.8": 0.8 * x, "half as bright above black": 0.5 * x - 0.5}
    repeats, rows = 6 if quick else REPEATS, []
    for pair, fake in pairs.items():
        truth = sliced_wasserstein(fake, y, 200 if quick else MANY, "lower", seed=2**40 + recipe.seed)
        for lines in LINES:
            for control in CONTROLS:
                found = [
                    sliced_wasserstein(fake, y, lines, control, seed=recipe.seed * REPEATS + i).value
                    for i in range(repeats)
                ]
                errors = torch.tensor(found, dtype=torch.float64) - truth.value
                rows.append({
                    "pair": pair, "lines": lines, "control": control, "truth": truth.value, "rms": float(errors.square().mean().sqrt()),
                    "bias": float(errors.mean()),
                })  # fmt: skip
    return {"rows": rows, "repeats": repeats}


def _rms(run: Any, pair: str, lines: int, control: str) -> float:
    return next(r["rms"] for r in run["rows"] if (r["pair"], r["lines"], r["control"]) == (pair, lines, control))


def _pairs(run: Any) -> list[str]:
    return list(dict.fromkeys(r["pair"] for r in run["rows"]))


def _gain(run: Any, pair: str, control: str) -> float:
    """How many times the mean squared error falls, at the most lines."""
    return (_rms(run, pair, LINES[-1], "none") / _rms(run, pair, LINES[-1], control)) ** 2


def _judge(cells: Cells) -> Finding:
    runs = list(cells["digits"].values())
    pairs = _pairs(runs[0])
    parts = {
        control: [statistics.fmean(math.log(_gain(r, pair, control)) for pair in pairs) for r in runs]
        for control in CONTROLS[1:]
    }
    shown = "; ".join(
        f"{pair}: {plus_minus([_gain(r, pair, 'lower') for r in runs], 1)} times by the lower bound, "
        f"{plus_minus([_gain(r, pair, 'upper') for r in runs], 1)} by the upper"
        for pair in pairs
    )
    ours = f"variance at {LINES[-1]} lines, digits' pixels, falls: {shown}"
    return weakest(
        parts, ours, {"gains": {c: {p: [_gain(r, p, c) for r in runs] for p in pairs} for c in CONTROLS[1:]}}
    )


def _panels(cells: Cells) -> list[dict[str, Any]]:
    runs = list(cells["digits"].values())
    return [
        {
            "title": pair, "x": "lines", "y": "RMS error over the distance", "log": "xy", "ticks": LINES,
            "series": [
                {
                    "name": control if k == 0 else None, "x": list(LINES), "color": color, "style": "o-",
                    "y": [_rms(run, pair, n, control) / next(r["truth"] for r in run["rows"] if r["pair"] == pair) for n in LINES],
                }
                for color, control in enumerate(CONTROLS)
                for k, run in enumerate(runs)
            ],
        }
        for pair in _pairs(runs[0])
    ]  # fmt: skip


CLAIM = Claim(
    name="sliced-control-variates",
    paper="Nguyen & Ho 2024",
    arxiv="2305.00402",
    promise="control variates from a Gaussian approximation reduce the variance of the sliced Wasserstein distance at the same lines",
    figure="shown in plots (images, point clouds)",
    measurement="sliced-control-variates",
    variants=VARIANTS,
    recipe=drawn_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    trains=False,
)

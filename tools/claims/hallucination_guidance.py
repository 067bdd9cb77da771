"""How many samples are hallucinated by the scale of guidance, at all noise levels and in an interval of them.

Our own question: no paper has this table. Fixed before seeds 0 to 2 were run, on seed 100: the network, its steps, samplers, scales, the
interval (of six the one with the fewest hallucinations of both samplers at scale 3; of two equal ones that with fewer evaluations), counts,
measures, and the rule. On the grid of narrow modes, whose classes are its columns, a sample is hallucinated that is further than 6 standard
deviations from every mode; it misses its class where it is as far from all modes of that. The effect per seed is the mean over the scales
above 1 of the logarithm of the rate under CFG over the rate under the same CFG in the interval, one sample added to both counts; DDPM and
DDIM, hallucinated and missing, are four parts, and the smallest effect counts. A scale in an interval is less guidance than the same scale
everywhere, so equal scales are not equal strengths; nearly all samples are of their class at either, so accuracy could not match them.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Model, Recipe, load
from ...guidance import CFG, Guidance, Interval
from ...samplers import DDIM, DDPM, Sampler
from ...schedules import Explicit, Grid
from .claim import Cells, Claim, Finding, plus_minus, weakest
from .grid_recipe import STEPS, grid_recipe
from .guided import ends, in_turn
from .modes import FAR, Modes
from .modes_recipe import by_log_snr

__all__ = ["CLAIM", "HIGH", "LOW", "SCALES", "effect", "rates"]

SCALES = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
LOW, HIGH = 0.15, 0.5  # of the interval, in sigma / alpha
COUNT, POINTS, BLOCK = 5000, 10_000, 2 << 20
SAMPLERS: dict[str, tuple[Sampler, Grid, int]] = {
    "DDPM": (DDPM("large"), Explicit(STEPS, "index"), len(STEPS)),
    "DDIM": (DDIM(), by_log_snr(50), len(by_log_snr(50).values)),
}
WAYS = ("CFG", "interval")


def _recipe(variant: str, seed: int, quick: bool) -> Recipe:
    return grid_recipe(seed, quick, POINTS, classes=True)


def rates(x: Tensor, labels: Tensor, law: Modes) -> dict[str, float]:
    """Where guided points are.

    Args:
        x: (N, 2, 1, 1); what is not finite is far from everything.
        labels: int64 (N,), the column of the square grid that each should be in.
        law: the grid.

    Returns:
        off: share further than FAR standard deviations from every mode. missed: share as far from all modes of their class, >= off. right:
        share whose nearest mode is of their class. spread: effective share of a class's modes, exp(entropy) over their number, by the
        nearest of all that are not off, mean over the classes; 1 where all are met equally often.
    """
    finite = torch.isfinite(x).flatten(1).all(1)
    points = torch.where(finite[:, None, None, None], x, torch.zeros_like(x))
    which, away = law.nearest(points)
    own = law.centres[(labels[:, None] * 5 + torch.arange(5))]
    to_own = (points.flatten(1).double()[:, None] - own).square().sum(-1).min(1).values.sqrt() / law.std
    off, missed = (away > FAR) | ~finite, (to_own > FAR) | ~finite
    spread = 0.0
    for c in range(5):
        met = torch.bincount(which[~missed & (labels == c)] % 5, minlength=5).double()
        spread += float(torch.special.entr(met / met.sum().clamp_min(1)).sum().exp()) / 25
    found = {"off": off, "missed": missed, "right": (which // 5 == labels) & finite}
    return {**{k: float(v.double().mean()) for k, v in found.items()}, "spread": spread}


def _row(model: Model, sampler: str, rule: Guidance, count: int) -> dict[str, float]:
    method, grid, steps = SAMPLERS[sampler]
    x, spent = ends(replace(model, grid=grid), rule, steps, range(BLOCK, BLOCK + count), sampler=method, batch=1000)
    found = rates(x, in_turn(model, count), Modes("grid", classes=True))
    return {k: round(v, 6) for k, v in found.items()} | {"evaluations": round(spent, 3)}


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    model, quick = load(folder), recipe.steps <= 100
    scales, count = (SCALES[:3], 50) if quick else (SCALES, COUNT)
    found: dict[str, Any] = {"count": count}
    for name in SAMPLERS:
        plain = [{"scale": s, **_row(model, name, CFG(s), count)} for s in scales]
        # at scale 1 both are the conditional model
        inside = [{"scale": s, **_row(model, name, Interval(CFG(s), LOW, HIGH), count)} for s in scales if s > 1]
        found[name] = {"CFG": plain, "interval": [plain[0], *inside]}
    return found


def effect(cell: Any, sampler: str, what: str) -> float:
    """The mean over scales above 1 of the logarithm of CFG's rate over the interval's, one sample added to both counts."""
    one = 1 / cell["count"]
    pairs = zip(cell[sampler]["CFG"], cell[sampler]["interval"], strict=True)
    return statistics.fmean(math.log((a[what] + one) / (b[what] + one)) for a, b in pairs if a["scale"] > 1)


def _judge(cells: Cells) -> Finding:
    runs = list(cells["grid"].values())
    parts = {
        f"{name} {what}": [effect(cell, name, what) for cell in runs] for name in SAMPLERS for what in ("off", "missed")
    }
    scales = [row["scale"] for row in runs[0]["DDPM"]["CFG"]]
    said: list[str] = []
    for name in SAMPLERS:
        columns = {way: [[100 * c[name][way][i]["off"] for c in runs] for i in range(len(scales))] for way in WAYS}
        by_scale = ", ".join(
            f"{s:g}: {plus_minus(columns['CFG'][i], 1)}"
            + ("" if s == 1 else f" (interval {plus_minus(columns['interval'][i], 1)})")
            for i, s in enumerate(scales)
        )
        said.append(f"{name} {by_scale}")
    notes = {
        f"{name} {what} {way}": {
            f"{s:g}": plus_minus([100 * c[name][way][i][what] for c in runs], 2) for i, s in enumerate(scales)
        }
        for name in SAMPLERS for what in ("off", "missed") for way in WAYS
    }  # fmt: skip
    return weakest(parts, f"% hallucinated by scale: {'; '.join(said)}", {"percent": notes})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    runs, panels = list(cells["grid"].values()), []
    wanted = [(n, w) for n in SAMPLERS for w in ("off", "missed")]
    for sampler, what in wanted:
        series: list[dict[str, Any]] = []
        for color, way in enumerate(WAYS):
            columns = [[100 * row[what] for row in rows] for rows in zip(*(c[sampler][way] for c in runs), strict=True)]
            series.append(
                {
                    "name": way, "x": [row["scale"] for row in runs[0][sampler][way]], "y": [statistics.fmean(c) for c in columns],
                    "color": color, "style": "o-", "band": ([min(c) for c in columns], [max(c) for c in columns]),
                }
            )  # fmt: skip
        y = "off every mode, in %" if what == "off" else "off their class's modes, in %"
        panels.append(
            {
                "title": sampler,
                "x": "scale",
                "y": y,
                "log": "x",
                "ticks": series[0]["x"],
                "series": series,
                "legend": not panels,
            }
        )
    return panels


CLAIM = Claim(
    name="hallucination-guidance",
    paper="Sfumato",
    arxiv="",
    promise="limiting guidance to an interval of noise levels lowers the hallucination rate at equal scale",
    figure="not published",
    measurement="hallucination-guidance",
    variants=("grid",),
    recipe=_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
)

"""Models that are trained on what models made collapse; what is left out of the next data set decides how soon.

Fixed before seeds 0 to 2 were run, on seed 100: networks, steps, counts, grids, measures, treatments, and the rule. Per training seed four
recursions go on from one first model: unfiltered, thinned at random (2.5 % more are drawn and as many dropped), the paper's filter (as many
are dropped, those with the highest `TrajectoryVariance.paper()`), and the re-noise probe, its threshold found without labels. A generation
is measured by what its model makes, before anything is filtered. The promise is the paper's: its filter keeps generations near to the data.
The effect per seed is the logarithm of the distance of the controls in the last generation (their geometric mean, since dropping at random
does nothing) over that of the paper's filter; of points the distance is total variation from the law, of digits Frechet's in the judge's
features, and the smaller effect counts. The probe is ours and not the paper's promise: its effects and their verdicts stand in the notes.
On the digits of seed 100 no level was found for it, so there it keeps all, and its line is the unfiltered one.

A fifth recursion on the points came after the first result, as a control: the paper's filter with 6.1 % dropped, about as many as the probe
rejects, to tell which samples are dropped from how many. It is not judged.
"""

from __future__ import annotations

import math
import statistics
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Digits, LogSNRClock, Recipe, UNet
from ...diffusion.measuring.frechet import frechet, moments
from ...diffusion.measuring.judge import Judge, train_judge
from ...guidance import Plain
from ...samplers import DDPM
from ...schedules import Cosine, Debiased, Trailing, V
from .claim import Cells, Claim, Finding, plus_minus, verdict, weakest
from .generations import Recursion, generations
from .grid_recipe import grid_recipe
from .modes import Modes
from .placed import placed
from .treatments import TREATMENTS

__all__ = ["CLAIM", "GENERATIONS", "effects", "pictured"]

# four for the digits, whose networks take most of the time
GENERATIONS = {"grid": 5, "digits": 4}
POINTS = 10_000
NAMES = {
    "all": "unfiltered",
    "random": "thinned at random",
    "paper": "paper's filter",
    "probe": "re-noise probe",
    "more": "paper's filter, 6.1 % dropped",
}
# a picture whose most likely digit is less likely than this to the judge: of real ones few
UNSURE = 0.9


def _recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """The points' network of `grid_recipe`; of the digits that of `debiased`, without classes and for fewer steps."""
    if variant == "grid":
        return grid_recipe(seed, quick, POINTS)
    torch.manual_seed(seed)
    return Recipe(
        data=Digits(), backbone=UNet(1, 8, 0, width=16, multipliers=(1, 2), blocks=1, attention=()),
        schedule=Cosine(), row=V(), clock=LogSNRClock(), weighting=Debiased(),
        steps=4 if quick else 400, batch=8 if quick else 64, lr=5e-3, warmup=50, ema=0.98, label_dropout=0.0, seed=seed, threads=1,
        sampler=DDPM(), grid=Trailing(), sampling_steps=10 if quick else 25, guidance=Plain(), save_every=0, keep=1,
    )  # fmt: skip


@cache
def _digits() -> tuple[Judge, Tensor]:
    """The judge, and its features of all real digits."""
    source = Digits()
    judge = train_judge(source)
    return judge, judge.features(source.batch(torch.arange(len(source))).x)


def pictured(x: Tensor) -> dict[str, float]:
    """Measures of digits: Frechet's distance from the real ones in the judge's features, and the share the judge is unsure about.

    Args:
        x: (N, 1, 8, 8), cut to [-1, 1].
    """
    judge, real = _digits()
    features = judge.features(x.clamp(-1, 1))
    with torch.no_grad():
        surest = judge.network.head(features.relu()).softmax(1).max(1).values
    return {"distance": frechet(moments(features), moments(real)), "unsure": float((surest < UNSURE).double().mean())}


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    quick = recipe.steps <= 100
    kind = "grid" if isinstance(recipe.data, Modes) else "digits"

    def fresh(number: int) -> Recipe:
        return _recipe(kind, recipe.seed + 1000 * number, quick)

    law = Modes("grid")
    return generations(folder, recipe.data, Recursion(
        fresh=fresh, measure=partial(placed, law=law) if kind == "grid" else pictured,
        hallucinated=law.hallucinated if kind == "grid" else None, count=200 if quick else len(recipe.data),
        generations=2 if quick else GENERATIONS[kind], batch=2000 if kind == "grid" else 500, limit=None if kind == "grid" else 1.0,
        treatments=_of(kind),
    ))  # fmt: skip


def _of(kind: str) -> tuple[str, ...]:
    """The treatments of a variant."""
    return (*TREATMENTS, "more") if kind == "grid" else TREATMENTS


def effects(cell: Any, treatment: str) -> float:
    """The logarithm of the controls' distance in the last generation over that of a treatment."""
    ends = {name: math.log(cell[name][-1]["distance"]) for name in ("all", "random", treatment)}
    return (ends["all"] + ends["random"]) / 2 - ends[treatment]


def _judge(cells: Cells) -> Finding:
    parts = {name: [effects(cell, "paper") for cell in runs.values()] for name, runs in cells.items()}
    said: list[str] = []
    notes: dict[str, Any] = {}
    for name, runs in cells.items():
        what, digits = ("off", 3) if name == "grid" else ("unsure", 1)
        levels = [c["level"] for c in runs.values()]
        names = NAMES | (
            {"probe": "re-noise probe (no level found: unfiltered)"} if levels == [None] * len(levels) else {}
        )
        ends = ", ".join(
            f"{names[t]} {plus_minus([c[t][-1]['distance'] for c in runs.values()], digits)} "
            f"({plus_minus([100 * c[t][-1][what] for c in runs.values()], 1)} %)"
            for t in _of(name)
        )
        begin = plus_minus([c["all"][0]["distance"] for c in runs.values()], digits)
        rate = plus_minus([100 * c["all"][0][what] for c in runs.values()], 1)
        count = len(next(iter(runs.values()))["all"])
        about = "hallucinated" if name == "grid" else "unsure to the judge"
        said.append(f"{name}: distance {begin} ({about} {rate} %) in generation 1; in {count}: {ends}")
        probe = [effects(cell, "probe") for cell in runs.values()]
        apart = [effects(cell, "random") - effects(cell, "all") for cell in runs.values()]
        notes[name] = {
            "probe": {"values": [round(v, 4) for v in probe], "verdict": verdict(probe)},
            "random_against_all": {"values": [round(v, 4) for v in apart], "verdict": verdict(apart)},
            "levels": levels,
        }  # fmt: skip
        if name == "grid":
            rest = [effects(cell, "probe") - effects(cell, "more") for cell in runs.values()]
            notes[name]["probe_against_more"] = {"values": [round(v, 4) for v in rest], "verdict": verdict(rest)}
    return weakest(parts, "; ".join(said), notes)


def _panels(cells: Cells) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    wanted = [("grid", "distance", 1.0, "total variation from the law"), ("grid", "off", 100.0, "hallucinated, in %")]
    wanted += [("digits", "distance", 1.0, "Frechet distance (judge's features)")]
    for name, what, factor, y in wanted:
        runs = list(cells[name].values())
        series: list[dict[str, Any]] = []
        for color, treatment in enumerate(_of(name)):
            columns = [[factor * row[what] for row in rows] for rows in zip(*(c[treatment] for c in runs), strict=True)]
            series.append(
                {
                    "name": NAMES[treatment], "x": list(range(1, len(columns) + 1)), "y": [statistics.fmean(c) for c in columns],
                    "color": color, "style": "o-", "band": ([min(c) for c in columns], [max(c) for c in columns]),
                }
            )  # fmt: skip
        panels.append(
            {"title": name, "x": "generation", "y": y, "ticks": series[0]["x"], "series": series, "legend": not panels}
        )
    return panels


CLAIM = Claim(
    name="recursive-training",
    paper="Aithal et al. 2024",
    arxiv="2406.09358",
    promise="leaving out samples whose predictions vary late stabilises training on a model's own samples",
    figure="shown in curves over five generations (25 Gaussians in the plane, MNIST)",
    measurement="recursive-training",
    variants=("grid", "digits"),
    recipe=_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
)

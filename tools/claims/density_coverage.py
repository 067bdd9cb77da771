"""An outlier among the real pictures makes bad samples count as precise, but hardly as dense.

Fixed before anything was measured: pixels of digits as features, k, the counts and the effect. Half of the samples are digits that are not
among the real ones, half are pixels drawn without any structure, and so is the outlier that takes a real digit's place. The effect is by
how much more the first outlier raises precision than density. By their definitions one ball can raise density by no more than 1 / k of
that; how much a single outlier's ball catches is what is measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...diffusion import Recipe
from ...diffusion.measuring import prdc
from ...schedules.noise import permutation
from .claim import Cells, Claim, Finding, plus_minus, verdict
from .drawn import VARIANTS, all_digits, drawn_recipe, noise_pictures

__all__ = ["CLAIM"]

COUNT, K, OUTLIERS = 600, 5, (0, 1, 2, 5, 10)
NAMES = ("precision", "recall", "density", "coverage")


def _measure(_: Path, recipe: Recipe) -> dict[str, Any]:
    count = 40 if recipe.steps == 1 else COUNT
    order, digits = permutation(recipe.seed, 0, 1797), all_digits()
    real, good = digits[order[:count]], digits[order[count : count + count // 2]]
    fake = torch.cat([good, noise_pictures(count // 2, recipe.seed, 0)])
    strange, rows = noise_pictures(max(OUTLIERS), recipe.seed, 1), []
    for outliers in OUTLIERS:
        found = prdc(fake, torch.cat([real[outliers:], strange[:outliers]]), K)
        rows.append({"outliers": outliers, **{name: round(getattr(found, name), 5) for name in NAMES}})
    return {"rows": rows, "count": count, "k": K}


def _judge(cells: Cells) -> Finding:
    runs = list(cells["digits"].values())

    def risen(run: Any, name: str) -> float:
        none, one = (run["rows"][OUTLIERS.index(n)][name] for n in (0, 1))
        return one - none

    values = [risen(r, "precision") - risen(r, "density") for r in runs]

    def text(name: str) -> str:
        return " to ".join(plus_minus([r["rows"][OUTLIERS.index(n)][name] for r in runs]) for n in (0, 1))

    ours = (
        f"one outlier among {runs[0]['count']} real digits, half of the samples noise: precision {text('precision')}, "
        f"density {text('density')}, coverage {text('coverage')} (k = {runs[0]['k']})"
    )
    notes = {name: [risen(r, name) for r in runs] for name in NAMES}
    return Finding(values, ours, verdict(values), {"risen by the first outlier": notes})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    runs = list(cells["digits"].values())
    return [
        {
            "title": "half of the samples are noise", "x": "outliers among the real digits", "y": "measure", "ticks": OUTLIERS,
            "level": (0.5, "share of samples that are digits"),
            "series": [
                {
                    "name": name if i == 0 else None, "x": list(OUTLIERS), "color": color, "style": "o-",
                    "y": [row[name] for row in run["rows"]],
                }
                for color, name in enumerate(NAMES)
                for i, run in enumerate(runs)
            ],
        }
    ]  # fmt: skip


CLAIM = Claim(
    name="density-coverage",
    paper="Naeem et al. 2020",
    arxiv="2002.09797",
    promise="density is robust to an outlier among the real pictures, precision is not",
    figure="shown in plots (Gaussians with an outlier, FFHQ)",
    measurement="density-coverage",
    variants=VARIANTS,
    recipe=drawn_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    trains=False,
)

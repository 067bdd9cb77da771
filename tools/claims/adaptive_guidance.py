"""Guidance that stops when the branches agree makes the same pictures at a quarter fewer evaluations.

Fixed before any rule was run: the digits' network (that of `momentum`), scales, steps, controls, how many pictures, and the effect.
The threshold (of the cosine between the two x0) is set per training seed and scale on 200 trajectories so that 25 % of the evaluations
are saved on average, and judged on other seeds. The effect per seed is the logarithm of a control's distance from full CFG's pictures
(RMS per pixel, pictures cut to [-1, 1], geometric mean over the scales) over that of Adaptive: CFG in 15 steps instead of 20; CFG in the
last ten steps only; and no guidance at all. The smallest counts. CFG in the first ten steps of every picture is shown beside it, not
judged: it is Adaptive without looking.
"""

from __future__ import annotations

import math
from typing import Any

from .claim import Cells, Claim, Finding, plus_minus, weakest
from .guided import guided_recipe
from .saved_evaluations import UNGUIDED, gap, measure_savings, panel_of, sheet_of, spent

__all__ = ["CLAIM"]

RULE, CONTROLS, BESIDE = "Adaptive, 30", ("CFG, 15 steps", "CFG in the last 10", UNGUIDED), "CFG in the first 10"


def _judge(cells: Cells) -> Finding:
    runs = list(cells["digits"].values())
    parts = {name: [math.log(gap(r, name) / gap(r, RULE)) for r in runs] for name in CONTROLS}
    shown = {name: plus_minus([gap(r, name) for r in runs], 3) for name in (RULE, *CONTROLS, BESIDE)}
    ours = (
        f"RMS from full CFG's pictures {shown[RULE]} at {plus_minus([spent(r, RULE) for r in runs], 1)} of 40 evaluations; "
        + ", ".join(f"{name} {shown[name]}" for name in (*CONTROLS, BESIDE))
    )
    every = {r["rule"]: [gap(run, r["rule"]) for run in runs] for r in runs[0]["rows"] if r["rms"]}
    return weakest(parts, ours, {"rms": every, "evaluations": {n: [spent(run, n) for run in runs] for n in every}})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    return panel_of(cells["digits"])


def _sheet(cells: Cells) -> dict[str, Any]:
    return sheet_of(cells["digits"])


CLAIM = Claim(
    name="adaptive-guidance",
    paper="Castillo et al. 2023",
    arxiv="2312.12487",
    promise="guidance that stops when the branches agree makes the same pictures at 25 % fewer evaluations",
    figure="40 to about 30 evaluations, shown in pictures and votes",
    measurement="saved-evaluations",
    variants=("digits",),
    recipe=guided_recipe,
    measure=measure_savings,
    judge=_judge,
    panels=_panels,
    sheet=_sheet,
    keeps_runs=True,
)

"""Guidance by a weaker version of the network is nearer to the data than CFG, without its loss of diversity.

Fixed before anything was sampled under autoguidance: the weak networks (the same run after a 16th, an 8th and a quarter of its training,
their own averaged weights; no smaller network), scales, steps, measures, and the rule. Per training seed the weak network, its scale and
CFG's scale (1, unguided, included) are chosen by the smallest distance on one block of sampling seeds and judged on another. Two effects
per model, logarithms: of the distance of the best CFG over that of the best autoguidance; and of CFG's distance where it is as diverse as
that autoguidance, over autoguidance's. The smallest of the four counts. Distances and diversity are those of `guided_measures`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...diffusion import Recipe, load
from ...guidance import CFG, Autoguidance
from .claim import Cells, Claim, Finding, plus_minus, weakest
from .guided import VARIANTS, guided_recipe, tiny
from .scales import CFG_SCALES, CHOSEN, JUDGED, at_same, best, curve, line, panel, row

__all__ = ["CLAIM", "PARTS", "SCALES"]

PARTS, SCALES = (16, 8, 4), (1.0, 1.25, 1.5, 2.0, 3.0)


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    model, small = load(folder), tiny(recipe)
    name = "digits" if model.num_classes == 10 else "mixture"
    scales = SCALES[:2] if small else SCALES
    weak = {f"1/{p}": load(folder, step=2 if small else recipe.steps // p) for p in (PARTS[:1] if small else PARTS)}

    def cfg(block: int) -> list[dict[str, float]]:
        return curve(lambda s: row(model, name, CFG(s), block, small), CFG_SCALES[:2] if small else CFG_SCALES)

    def auto(part: str, block: int) -> list[dict[str, float]]:
        return curve(lambda s: row(model, name, Autoguidance(s), block, small, weak[part]), scales)

    searched = {part: auto(part, CHOSEN) for part in weak}
    part = min(searched, key=lambda k: best(searched[k])["distance"])
    return {
        "part": part, "scale": best(searched[part])["scale"], "cfg_chosen": cfg(CHOSEN), "cfg": cfg(JUDGED),
        "auto": auto(part, JUDGED), "searched": {k: [r["distance"] for r in rows] for k, rows in searched.items()},
        "weak_alone": {k: row(model, name, Autoguidance(0.0), CHOSEN, small, w) for k, w in weak.items()},
    }  # fmt: skip


def _judge(cells: Cells) -> Finding:
    parts: dict[str, list[float]] = {}
    said: list[str] = []
    chosen: dict[str, Any] = {}
    for name, runs in cells.items():
        pairs = [(line(c["cfg"], best(c["cfg_chosen"])["scale"]), line(c["auto"], c["scale"])) for c in runs.values()]
        same = [
            at_same(c["cfg"], "diverse", b["diverse"], "distance")
            for c, (_, b) in zip(runs.values(), pairs, strict=True)
        ]
        parts[f"{name}, best"] = [math.log(a["distance"] / b["distance"]) for a, b in pairs]
        parts[f"{name}, as diverse"] = [math.log(s / b["distance"]) for s, (_, b) in zip(same, pairs, strict=True)]
        digits = 1 if name == "digits" else 3
        said.append(
            f"{name}: distance {plus_minus([a['distance'] for a, _ in pairs], digits)} with CFG at its best scale, "
            f"{plus_minus(same, digits)} as diverse, {plus_minus([b['distance'] for _, b in pairs], digits)} with autoguidance"
        )
        chosen[name] = [
            {"cfg": a["scale"], "auto": b["scale"], "weak": c["part"], "diverse": [a["diverse"], b["diverse"]]}
            | {"right": [a["right"], b["right"]], "unguided": line(c["cfg"], 1.0)["distance"]}
            for (a, b), c in zip(pairs, runs.values(), strict=True)
        ]
    return weakest(parts, "; ".join(said), {"chosen": chosen})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    names = {"digits": "Frechet distance (judge's features)", "mixture": "total variation"}
    panels: list[dict[str, Any]] = []
    for name, runs in cells.items():
        curves = {key: [c[what] for c in runs.values()] for key, what in (("CFG", "cfg"), ("autoguidance", "auto"))}
        panels.append(panel(curves, name, names[name]))
        series = [
            {
                "name": key if k == 0 else None, "x": [r["diverse"] for r in rows], "y": [r["distance"] for r in rows],
                "color": color, "style": "o-",
            }
            for color, (key, all_rows) in enumerate(curves.items())
            for k, rows in enumerate(all_rows)
        ]  # fmt: skip
        panels.append(
            {"title": f"{name}, a line per seed", "x": "diversity", "y": names[name], "log": "y", "series": series}
        )
    return panels


CLAIM = Claim(
    name="autoguidance",
    paper="Karras et al. 2024",
    arxiv="2406.02507",
    promise="guidance by a weaker version of the network gives better quality than CFG, without its loss of diversity",
    figure="FID 2.23 to 1.34 (ImageNet-512, EDM2-S)",
    measurement="autoguidance",
    variants=VARIANTS,
    recipe=guided_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    keeps_runs=True,
)

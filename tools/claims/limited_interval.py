"""Guidance in a limited interval of noise levels is nearer to the data than guidance at all of them, at fewer evaluations.

Fixed before any interval was tried: scales, bounds, steps, measures, how many samples, and the rule. (The digits' network is that of
`momentum`; the mixture's size and training were chosen by looking at samples unguided and under CFG alone.) Per training seed, everything
is chosen on one block of sampling seeds and judged on another: CFG's scale, 1 (unguided) included; the interval and its scale as the paper
searches them, low 0 and high first, then low. The effect per seed is the logarithm of the distance of the best CFG over that of the best
interval, on the digits (Frechet's in the judge's features) and on the mixture (total variation of where the points are); the smaller one
counts. Evaluations are fewer by construction; they are shown.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...diffusion import Recipe, load
from ...guidance import CFG, Interval
from .claim import Cells, Claim, Finding, plus_minus, weakest
from .guided import VARIANTS, guided_recipe, tiny
from .scales import CFG_SCALES, CHOSEN, JUDGED, best, curve, line, panel, row

__all__ = ["CLAIM", "HIGHS", "LOWS", "SCALES"]

# of sigma / alpha; low and high of the interval, and the scales inside
HIGHS, LOWS, SCALES = (0.6, 1.2, 2.5, 5.0), (0.0, 0.15, 0.3), (1.0, 1.25, 1.5, 2.0, 3.0, 5.0)


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    model, small = load(folder), tiny(recipe)
    name = "digits" if model.num_classes == 10 else "mixture"
    highs, lows, scales = (HIGHS[1:3], LOWS[:2], SCALES[:2]) if small else (HIGHS, LOWS, SCALES)

    def cfg(block: int) -> list[dict[str, float]]:
        return curve(lambda s: row(model, name, CFG(s), block, small), CFG_SCALES[:2] if small else CFG_SCALES)

    def inside(low: float, high: float, block: int) -> list[dict[str, float]]:
        return curve(lambda s: row(model, name, Interval(CFG(s), low, high), block, small), scales)

    searched: list[dict[str, Any]] = [{"low": 0.0, "high": h, "rows": inside(0.0, h, CHOSEN)} for h in highs]
    high = min(searched, key=lambda s: best(s["rows"])["distance"])["high"]
    searched += [{"low": low, "high": high, "rows": inside(low, high, CHOSEN)} for low in lows if low]
    chosen = min(searched, key=lambda s: best(s["rows"])["distance"])
    low, high = chosen["low"], chosen["high"]
    return {
        "low": low, "high": high, "scale": best(chosen["rows"])["scale"], "cfg_chosen": cfg(CHOSEN), "cfg": cfg(JUDGED),
        "interval": inside(low, high, JUDGED),
        "searched": [{"low": s["low"], "high": s["high"], "distance": [r["distance"] for r in s["rows"]]} for s in searched],
    }  # fmt: skip


def _picked(cell: Any) -> tuple[Any, Any]:
    """The judged rows of CFG and of the interval at the scales that were chosen."""
    return line(cell["cfg"], best(cell["cfg_chosen"])["scale"]), line(cell["interval"], cell["scale"])


def _judge(cells: Cells) -> Finding:
    parts: dict[str, list[float]] = {}
    said: list[str] = []
    chosen: dict[str, Any] = {}
    for name, runs in cells.items():
        pairs = [_picked(cell) for cell in runs.values()]
        parts[name] = [math.log(a["distance"] / b["distance"]) for a, b in pairs]
        digits = 1 if name == "digits" else 3
        said.append(
            f"{name}: distance {plus_minus([a['distance'] for a, _ in pairs], digits)} with CFG at its best scale, "
            f"{plus_minus([b['distance'] for _, b in pairs], digits)} in an interval, evaluations "
            f"{plus_minus([a['evaluations'] for a, _ in pairs], 0)} and {plus_minus([b['evaluations'] for _, b in pairs], 0)}"
        )
        chosen[name] = [
            {
                "cfg": a["scale"],
                "interval": b["scale"],
                "low": c["low"],
                "high": c["high"],
                "right": [a["right"], b["right"]],
            }
            | {"unguided": line(c["cfg"], 1.0)["distance"], "diverse": [a["diverse"], b["diverse"]]}
            for (a, b), c in zip(pairs, runs.values(), strict=True)
        ]
    return weakest(parts, "; ".join(said), {"chosen": chosen})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    names = {"digits": "Frechet distance (judge's features)", "mixture": "total variation"}
    return [
        panel(
            {key: [c[what] for c in runs.values()] for key, what in (("CFG", "cfg"), ("in the interval", "interval"))},
            name,
            names[name],
        )
        for name, runs in cells.items()
    ]


CLAIM = Claim(
    name="limited-interval",
    paper="Kynkäänniemi et al. 2024",
    arxiv="2404.07724",
    promise="guidance in a limited interval of noise levels improves on guidance at all levels, at fewer evaluations",
    figure="FID 1.81 to 1.40 (ImageNet-512, EDM2-XXL), 126 to 75 evaluations",
    measurement="limited-interval",
    variants=VARIANTS,
    recipe=guided_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    keeps_runs=True,
)

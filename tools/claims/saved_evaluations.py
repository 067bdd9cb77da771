"""The measurement that two claims share: rules that save evaluations, and how far their pictures are from full CFG's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Model, Recipe, load
from ...guidance import CFG, Adaptive, Ask, Guidance, Interval, LinearAdaptive, Plain, cosine
from ...guidance.linear_fit import Kind, LinearFit
from ...guidance.tree import Tree
from ...schedules import Prediction
from .divergence import distance
from .guided import ends, in_turn, tiny, tiny_count
from .guided_measures import measured
from .scales import CHOSEN, JUDGED

__all__ = [
    "SCALES",
    "SHOWN",
    "STEPS",
    "UNGUIDED",
    "gap",
    "guided_steps",
    "measure_savings",
    "panel_of",
    "sheet_of",
    "spent",
    "threshold_for",
]

# of CFG; of DPM-Solver++ of order 2; trajectories that thresholds and plans are fitted on; pictures that are compared
SCALES, STEPS, FITTED, PICTURES = (2.0, 5.0), 20, 200, 500
FULL, UNGUIDED = "CFG, 20 steps", "unguided, 20 steps"
SHOWN, COLUMNS = 5.0, 10  # scale of the pictures that are kept


@dataclass
class _Cosines:
    """CFG that notes the cosine between the branches' x0, per step and sample."""

    rule: Guidance
    found: list[Tensor] = field(default_factory=list)

    def init(self, x: Tensor) -> Tree:
        return self.rule.init(x)

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        cond, ref = ask("cond", "ref")
        self.found.append(cosine(cond.x0, ref.x0))
        return self.rule(ask, memory)


def guided_steps(cosines: Tensor, threshold: float) -> Tensor:
    """How many steps `Adaptive` guides, int64 (B,), from the cosines (steps, B) that full CFG would see."""
    stop = cosines >= threshold
    first = torch.where(stop.any(0), stop.int().argmax(0), len(cosines) - 1)
    return first + 1


def threshold_for(cosines: Tensor, steps: float) -> float:
    """The threshold at which the mean number of guided steps comes nearest to `steps`; cosines: (steps, B)."""
    low, high = float(cosines.min()), float(cosines.max()) + 1e-6
    for _ in range(60):
        middle = (low + high) / 2
        few = float(guided_steps(cosines, middle).double().mean()) < steps
        low, high = (middle, high) if few else (low, middle)
    apart = {t: abs(float(guided_steps(cosines, t).double().mean()) - steps) for t in (low, high)}
    return min(apart, key=lambda t: apart[t])


def _alternates(steps: int, after: Kind) -> Any:
    """The paper's plan: in the first half every second reference is estimated, then all (or nothing is guided)."""
    return lambda k: after if k >= steps // 2 else ("ask" if k % 2 == 0 else "replace")


def _plans(model: Model, scale: float, steps: int, seeds: Sequence[int]) -> dict[str, LinearFit]:
    """Both plans, fitted on the same trajectories."""
    fits = {
        "LinearAG": LinearFit(scale, _alternates(steps, "replace")),
        "LinearAG, then unguided": LinearFit(scale, _alternates(steps, "plain")),
    }
    for fit in fits.values():
        ends(model, fit, steps, seeds, batch=len(seeds))
    return fits


def measure_savings(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Every rule at every scale: evaluations per picture, and the distance of its pictures from full CFG's, both cut to [-1, 1]."""
    model, small = load(folder), tiny(recipe)
    scales, steps, fitted, count = (
        (SCALES[1:], 4, 10, tiny_count(PICTURES)) if small else (SCALES, STEPS, FITTED, PICTURES)
    )
    labels = in_turn(model, count)
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {}
    about: list[dict[str, Any]] = []
    levels = model.grid(model.denoiser.schedule, steps)
    half, quarter = steps // 2, steps // 4
    middle = float(levels[half].ratio)
    for scale in scales:
        noted = _Cosines(CFG(scale))
        ends(model, noted, steps, range(CHOSEN, CHOSEN + fitted), batch=fitted)
        cosines = torch.stack(noted.found)
        plans = _plans(model, scale, steps, range(CHOSEN, CHOSEN + fitted))
        thresholds = {k: threshold_for(cosines, k) for k in (half, quarter)}
        rules: dict[str, tuple[Guidance, int]] = {
            FULL: (CFG(scale), steps),
            "Adaptive, 30": (Adaptive(CFG(scale), thresholds[half]), steps),
            "Adaptive, 25": (Adaptive(CFG(scale), thresholds[quarter]), steps),
            **{name: (LinearAdaptive(fit.plan()), steps) for name, fit in plans.items()},
            "CFG, 15 steps": (CFG(scale), steps * 3 // 4),
            "CFG, 13 steps": (CFG(scale), -(-steps * 5 // 8)),
            "CFG in the first 10": (Interval(CFG(scale), low=middle), steps),
            "CFG in the last 10": (Interval(CFG(scale), high=middle), steps),
            UNGUIDED: (Plain(), steps),
        }
        ends_of = {n: ends(model, rule, k, range(JUDGED, JUDGED + count)) for n, (rule, k) in rules.items()}
        full = ends_of[FULL][0].clamp(-1, 1)
        for name, (x, evaluations) in ends_of.items():
            row = {
                "rule": name,
                "scale": scale,
                "evaluations": round(evaluations, 3),
                "rms": round(distance(x.clamp(-1, 1), full), 6),
            }
            rows.append({**row, "rms_uncut": round(distance(x, ends_of[FULL][0]), 6), **measured(x, labels)})
            if scale == SHOWN and recipe.seed == 0:
                pictures[name] = [[round(v, 2) for v in p] for p in x[:COLUMNS].clamp(-1, 1).flatten(1).tolist()]
        about.append(
            {
                "scale": scale, "thresholds": thresholds, "residuals": {n: fit.residuals for n, fit in plans.items()},
                "cosines": [[round(float(q), 5) for q in step.quantile(torch.tensor([0.1, 0.5, 0.9]))] for step in cosines],
                "stops": torch.bincount(guided_steps(cosines, thresholds[half]), minlength=steps + 1).tolist(),
            }
        )  # fmt: skip
    return {"rows": rows, "fitted": about, "pictures": pictures, "count": count}


def _of(cell: Any, rule: str, what: str = "rms") -> dict[float, float]:
    """By scale."""
    return {r["scale"]: r[what] for r in cell["rows"] if r["rule"] == rule}


def spent(cell: Any, rule: str) -> float:
    """Evaluations per picture, the mean over the scales."""
    return statistics.fmean(_of(cell, rule, "evaluations").values())


def gap(cell: Any, rule: str) -> float:
    """The distance from full CFG's pictures, the geometric mean over the scales."""
    return statistics.geometric_mean(_of(cell, rule).values())


def panel_of(cells: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Distance against evaluations, a panel per scale, a point per rule and seed."""
    runs = list(cells.values())
    names = [n for n in dict.fromkeys(r["rule"] for r in runs[0]["rows"]) if n != FULL]
    return [
        {
            "title": f"CFG {scale:g}", "x": "evaluations per picture", "y": "RMS distance from full CFG's pictures", "log": "y",
            "legend": k == 0, "series": [
                {
                    "name": n, "color": c, "style": "os^v"[c // 3] if c < 9 else "o",
                    "x": [_of(r, n, "evaluations")[scale] for r in runs], "y": [_of(r, n)[scale] for r in runs],
                }
                for c, n in enumerate(names)
            ],
        }
        for k, scale in enumerate(_of(runs[0], FULL))
    ]  # fmt: skip


def sheet_of(cells: Mapping[int, Any]) -> dict[str, Any]:
    """The pictures that were kept, of the first training seed."""
    (pictures,) = [run["pictures"] for run in cells.values() if run["pictures"]]
    return {
        "rows": pictures,
        "size": 8,
        "columns": list(range(COLUMNS)),
        "title": f"CFG {SHOWN:g}, training seed 0, one digit of each class",
    }

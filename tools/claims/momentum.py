"""Momentum leaves fewer diverged pixels in few steps under strong guidance.

Fixed before any sampler was run under guidance: recipe, scales, steps, samplers, margins (the first one judges), how many pictures,
which of them are drawn, and how the effect is computed. PLMS with numbers for the steps there are came after the first result, as a
control: the published ones are those of equal steps in sigma / alpha, which this grid does not have. It is not judged.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Digits, LogSNRClock, Model, Recipe, UNet, load
from ...diffusion.progress import progress_bar
from ...guidance import CFG, Branch, Field, Plain
from ...guidance.tree import take
from ...samplers import DDIM, GHVB, PLMS, DPMSolverPP, HeavyBall, Sampler, on_path
from ...samplers.refill import fill
from ...schedules import Constant, Eps, ScaledLinearBeta, Trailing
from .claim import Cells, Claim, Finding, plus_minus, verdict
from .divergence import distance, share

__all__ = ["CLAIM", "SAMPLERS", "ends", "gains"]

SCALES, STEPS, MARGINS, PICTURES = (5.0, 10.0, 15.0), (6, 8, 10, 12), (0.5, 1.0), 300
SAMPLERS: dict[str, Sampler] = {
    "PLMS4": PLMS(4),
    "PLMS4 + HB 0.8": HeavyBall(PLMS(4), 0.8),
    "GHVB 3.8": GHVB(3.8),
    "DPM++2M": DPMSolverPP(2),
    "DPM++2M + HB 0.8": HeavyBall(DPMSolverPP(2), 0.8),
    "DDIM": DDIM(),
    "PLMS4 variable": PLMS(4, variable=True),
}
# what guidance itself does: the same noise under the same rule, in so many steps that the solver hardly matters
REFERENCE, MANY = "DPM++2M in 200 steps", 200
SHOWN, COLUMNS = (10.0, 8), 10  # the scale and steps of the pictures that are kept
# (without momentum, with it); the promise is the first two
PAIRS = (("PLMS4", "PLMS4 + HB 0.8"), ("PLMS4", "GHVB 3.8"), ("DPM++2M", "DPM++2M + HB 0.8"))


def _recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """The digits preset's network on the path and with the output of Stable Diffusion; labels are dropped, so that CFG has a reference."""
    torch.manual_seed(seed)
    return Recipe(
        data=Digits(), backbone=UNet(1, 8, 10, width=16, multipliers=(1, 2), blocks=1, attention=()),
        schedule=ScaledLinearBeta(), row=Eps(), clock=LogSNRClock(), weighting=Constant(Eps()),
        steps=4 if quick else 1200, batch=8 if quick else 64, lr=5e-3, warmup=50, ema=0.98, label_dropout=0.1, seed=seed, threads=1,
        grid=Trailing(), sampling_steps=4 if quick else 20, guidance=Plain(), save_every=0 if quick else 400,
    )  # fmt: skip


@torch.no_grad()
def ends(model: Model, sampler: Sampler, scale: float, steps: int, count: int) -> Tensor:
    """Where the trajectories of seeds 0 to count - 1 end under CFG, cut by nothing; picture i is of class i mod 10.

    Args:
        model: of classes, trained with labels dropped.
        sampler, scale, steps: how to sample; every setting starts from the same noise.
        count: pictures, >= 1.
    """
    schedule, conditions = model.denoiser.schedule, model.conditions([i % 10 for i in range(count)], count)
    levels = model.grid(schedule, steps)

    def denoise_for(slots: Tensor) -> Field:
        branches = {name: Branch(model.denoiser, take(c, slots)) for name, c in conditions.items()}
        return Field(branches, CFG(scale), len(slots))

    done = fill(on_path(sampler, schedule), denoise_for, levels, range(count), model.shape, batch=100)
    return torch.cat([batch.x for batch in done]) / levels[-1].alpha


def _row(name: str, scale: float, steps: int, x: Tensor, many: Tensor) -> dict[str, Any]:
    """The numbers of one setting; `fresh` leaves out what guidance did in many steps too, `seen` is after cutting."""
    return {
        "sampler": name, "scale": scale, "steps": steps,
        "share": [round(share(x, m), 6) for m in MARGINS],
        "fresh": [round(share(x, m, many), 6) for m in MARGINS],
        "rms": round(distance(x, many), 5), "rms_seen": round(distance(x.clamp(-1, 1), many.clamp(-1, 1)), 5),
    }  # fmt: skip


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Every sampler at every scale and number of steps, and the first pictures of one setting (of the first run only)."""
    model, tiny = load(folder), recipe.steps <= 100
    scales, steps, count, many = ((10.0,), (6, 8), 10, 20) if tiny else (SCALES, STEPS, PICTURES, MANY)
    rows: list[dict[str, Any]] = []
    pictures: dict[str, Any] = {}

    def keep(name: str, x: Tensor) -> None:
        pictures[name] = [[round(v, 2) for v in picture] for picture in x[:COLUMNS].flatten(1).tolist()]

    with progress_bar(len(scales) * (1 + len(steps) * len(SAMPLERS)), 0, "measuring", True, leave=False) as bar:
        for scale in scales:
            reference = ends(model, DPMSolverPP(2), scale, many, count)
            rows.append(_row(REFERENCE, scale, many, reference, reference))
            bar.update()
            for name, sampler in SAMPLERS.items():
                for n in steps:
                    x = ends(model, sampler, scale, n, count)
                    rows.append(_row(name, scale, n, x, reference))
                    bar.update()
                    if (scale, n) == SHOWN and recipe.seed == 0:
                        keep(name, x)
            if scale == SHOWN[0] and recipe.seed == 0:
                keep(REFERENCE, reference)
    return {"rows": rows, "margins": list(MARGINS), "pictures": pictures, "count": count}


def _mean(cell: Any, name: str, margin: int = 0, what: str = "share") -> float:
    """Over all scales and numbers of steps; margin: which one."""
    found = [row[what] for row in cell["rows"] if row["sampler"] == name]
    return statistics.fmean(v[margin] if isinstance(v, list) else v for v in found)


def gains(cell: Any, margin: int = 0) -> list[float]:
    """By how much momentum lowers the share of diverged pixels, for each of PAIRS: means over all scales and steps."""
    return [_mean(cell, without, margin) - _mean(cell, with_it, margin) for without, with_it in PAIRS]


def _by_setting(cells: list[Any], without: str, with_it: str) -> dict[str, Any]:
    """The mean gain over the training seeds and its verdict, setting by setting."""
    known = [{(r["sampler"], r["scale"], r["steps"]): r["share"][0] for r in cell["rows"]} for cell in cells]
    found: dict[str, Any] = {}
    for name, scale, steps in known[0]:
        if name == without:
            values = [k[without, scale, steps] - k[with_it, scale, steps] for k in known]
            found[f"CFG {scale:g}, {steps} steps"] = [round(statistics.fmean(values), 5), verdict(values)]
    return found


def _judge(cells: Cells) -> Finding:
    """The gain over PLMS4 of that momentum which gains less, in every training seed: the promise is of both."""
    runs = list(cells["digits"].values())
    values = [min(gains(run)[:2]) for run in runs]
    percent = {n: plus_minus([100 * _mean(run, n) for run in runs], 1) for n in (*SAMPLERS, REFERENCE)}
    ours = f"% of pixels beyond ±{1 + MARGINS[0]:g}: " + ", ".join(f"{n} {value}" for n, value in percent.items())
    notes: dict[str, Any] = {
        what: {n: [_mean(run, n, margin, key) for run in runs] for n in SAMPLERS}
        for what, margin, key in (("beyond_2", 1, "share"), ("fresh", 0, "fresh"), ("rms", 0, "rms"), ("rms_seen", 0, "rms_seen"))
    }  # fmt: skip
    for k, (without, with_it) in enumerate(PAIRS):
        found = [[gains(run, m)[k] for run in runs] for m in range(len(MARGINS))]
        notes[f"{without} to {with_it}"] = {
            "gain_by_margin": found, "verdicts": [verdict(v) for v in found], "settings": _by_setting(runs, without, with_it),
        }  # fmt: skip
    return Finding(values, ours, verdict(values), notes)


def _panels(cells: Cells) -> list[dict[str, Any]]:
    rows = [row for run in cells["digits"].values() for row in run["rows"]]

    def values(name: str, scale: float, steps: int) -> list[float]:
        return [100 * r["share"][0] for r in rows if (r["sampler"], r["scale"], r["steps"]) == (name, scale, steps)]

    panels: list[dict[str, Any]] = []
    for scale in sorted({row["scale"] for row in rows}):
        steps = sorted({row["steps"] for row in rows if row["sampler"] in SAMPLERS})
        series: list[dict[str, Any]] = []
        for color, name in enumerate(SAMPLERS):
            found = [values(name, scale, n) for n in steps]
            series.append(
                {
                    "name": name, "x": steps, "y": [statistics.fmean(v) for v in found], "color": color, "style": "o-",
                    "band": ([min(v) for v in found], [max(v) for v in found]),
                }
            )  # fmt: skip
        many = statistics.fmean(100 * r["share"][0] for r in rows if (r["sampler"], r["scale"]) == (REFERENCE, scale))
        panels.append(
            {
                "title": f"CFG {scale:g}", "x": "steps", "y": "pixels beyond ±1.5, in %", "ticks": steps, "series": series,
                "level": (many, REFERENCE), "legend": not panels,
            }
        )  # fmt: skip
    return panels


def _sheet(cells: Cells) -> dict[str, Any]:
    (pictures,) = [run["pictures"] for run in cells["digits"].values() if run["pictures"]]
    return {
        "rows": pictures, "size": 8, "limit": 1 + MARGINS[0], "columns": [f"seed {i}" for i in range(COLUMNS)],
        "title": f"CFG {SHOWN[0]:g}, {SHOWN[1]} steps, training seed 0",
    }  # fmt: skip


CLAIM = Claim(
    name="momentum",
    paper="Wizadwongsa et al. 2024",
    arxiv="2307.11118",
    promise="momentum (HB, GHVB) reduces the divergence artifacts of PLMS4 at few steps and strong guidance",
    figure="shown in pictures (Stable Diffusion); FID at 6 steps 13.10 to 10.99 by GHVB 3.8, to 14.35 by HB 0.8 (DiT-XL, w 3)",
    measurement="momentum",
    variants=("digits",),
    recipe=_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    sheet=_sheet,
)

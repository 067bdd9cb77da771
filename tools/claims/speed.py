"""Optimizer steps to a fixed Frechet distance on digits: the measurement that three claims share."""

from __future__ import annotations

import math
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Digits, LogSNRClock, Recipe, UNet, load
from ...diffusion.measuring.judge import Judge, measure, train_judge
from ...diffusion.progress import progress_bar
from ...guidance import Plain
from ...schedules import (
    Constant,
    Cosine,
    Debiased,
    Density,
    Eps,
    Laplace,
    LogSNRImportance,
    MinSNR,
    Trailing,
    Uniform,
    V,
    Weighting,
)
from .claim import FAILED, Cells, Claim, Finding, plus_minus, verdict

__all__ = ["VARIANTS", "reached", "speed_claim"]

# What is compared, and nothing else differs: weight of the loss, density of noise levels.
VARIANTS: dict[str, tuple[Weighting, Density]] = {
    "constant-eps": (Constant(Eps()), Uniform()),
    "min-snr": (MinSNR(5.0), Uniform()),
    "debiased": (Debiased(), Uniform()),
    "constant-v": (Constant(V()), Uniform()),
    "laplace": (Constant(V()), LogSNRImportance(Laplace(0.0, 0.5))),
}
PICTURES = 1000


def _recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """The digits preset's network on the cosine path, at a constant rate, so that no variant's schedule of rates ends too late."""
    weighting, density = VARIANTS[variant]
    torch.manual_seed(seed)
    return Recipe(
        data=Digits(), backbone=UNet(1, 8, 10, width=16, multipliers=(1, 2), blocks=1, attention=()),
        schedule=Cosine(), row=V(), clock=LogSNRClock(), weighting=weighting, density=density,
        steps=4 if quick else 800, batch=8 if quick else 64, lr=5e-3, warmup=50, lr_end=1.0, ema=0.98, seed=seed, threads=1,
        grid=Trailing(), sampling_steps=4 if quick else 20, guidance=Plain(), save_every=2 if quick else 50, keep=1000,
    )  # fmt: skip


@cache
def _known() -> tuple[Judge, Tensor]:
    """The judge, and all real digits."""
    source = Digits()
    return train_judge(source), source.batch(torch.arange(len(source))).x


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The distance at every checkpoint, always of the same seeds; averaged weights, no guidance."""
    judge, real = _known()
    count = PICTURES if recipe.steps > 100 else 20
    labels = torch.arange(count) % 10
    steps = list(range(recipe.save_every, recipe.steps + 1, recipe.save_every))
    found: list[dict[str, float]] = []
    with progress_bar(len(steps), 0, "measuring", True, leave=False) as bar:
        for step in steps:
            images = load(folder, step=step).sample(range(count), labels, batch=250).images
            found.append(measure(judge, real, images, labels))
            bar.update()
    return {
        "steps": steps,
        "frechet": [f["frechet"] for f in found],
        "accuracy": [f["accuracy"] for f in found],
        "pictures": count,
    }


def reached(cell: Any, target: float) -> float | None:
    """The optimizer step at which the distance first falls to `target`, or None.

    Between two checkpoints the logarithm of the distance is taken as linear.
    """
    before: tuple[float, float] | None = None
    for step, distance in zip(cell["steps"], cell["frechet"], strict=True):
        if distance <= target:
            if before is None or distance == before[1]:
                return float(step)
            share = math.log(before[1] / target) / math.log(before[1] / distance)
            return before[0] + share * (step - before[0])
        before = (step, distance)
    return None


def _judge(baseline: str, variant: str, cells: Cells) -> Finding:
    """Steps of the baseline over steps of the variant, per seed.

    The target is the smallest distance that the baseline reached in every seed: a rule that looks at the baseline only. Where
    the variant never gets there, its last step is counted, so that the ratio is an upper bound; where that is so in every seed,
    the promise did not hold, whatever the bounds are.
    """
    target = max(min(cell["frechet"]) for cell in cells[baseline].values())
    ratios: list[float] = []
    steps: dict[str, list[float | None]] = {baseline: [], variant: []}
    for seed, cell in cells[baseline].items():
        slow, fast = reached(cell, target), reached(cells[variant][seed], target)
        assert slow is not None
        steps[baseline].append(slow)
        steps[variant].append(fast)
        ratios.append(slow / (cells[variant][seed]["steps"][-1] if fast is None else fast))
    logs = [math.log(r) for r in ratios]
    missed = sum(s is None for s in steps[variant])
    ours, said = f"{plus_minus(ratios)} x faster to Frechet {target:.1f}", verdict(logs)
    if missed == len(ratios):
        ours, said = f"Frechet {target:.1f}, the baseline's, never reached", FAILED
    elif missed:
        ours += f" (not reached in {missed} of {len(ratios)} seeds)"
    last = {v: [c["frechet"][-1] for c in cells[v].values()] for v in (baseline, variant)}
    ours += f"; at the last step {plus_minus(last[variant], 1)} against {plus_minus(last[baseline], 1)}"
    return Finding(logs, ours, said, {"target": target, "ratios": ratios, "steps": steps, "last": last})


def _panels(baseline: str, variant: str, cells: Cells) -> list[dict[str, Any]]:
    target = _judge(baseline, variant, cells).notes["target"]
    series = [
        {"name": name if k == 0 else None, "x": cell["steps"], "y": cell["frechet"], "color": color}
        for color, name in enumerate((baseline, variant))
        for k, cell in enumerate(cells[name].values())
    ]
    return [
        {
            "title": "distance while training, one line per seed", "x": "optimizer step", "y": "Frechet distance (judge's features)",
            "log": "y", "series": series, "level": (target, f"target {target:.1f}"),
        }
    ]  # fmt: skip


def speed_claim(name: str, paper: str, arxiv: str, promise: str, figure: str, baseline: str, variant: str) -> Claim:
    """A claim that `variant` reaches the baseline's distance in fewer steps; see `Claim` for the other arguments."""
    return Claim(
        name, paper, arxiv, promise, figure, "speed", (baseline, variant), _recipe, _measure,
        partial(_judge, baseline, variant), partial(_panels, baseline, variant),
    )  # fmt: skip

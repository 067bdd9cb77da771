"""What the claims on hallucinations share: samples of a model of `Modes` under several samplers, and what each score makes of them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ...diffusion import Model, Recipe, calibrate, load
from ...diffusion.probe_level import CUT as PROBE_CUT
from ...samplers import DDIM, DDPM, GHVB, Sampler, on_path
from ...samplers.filters import Filter, PathLength, RenoiseProbe, TrajectoryVariance
from ...samplers.refill import fill
from ...schedules import Grid, Trailing
from .hallucinations import auc, between, kept_at_removed, outcome, removed_at_kept
from .modes import FAR, Modes
from .modes_recipe import ENTRIES, by_log_snr, evenly

__all__ = ["ALPHA", "CUT", "MARGIN", "NOISINGS", "SAMPLERS", "WINDOWS", "measure_modes", "statistics"]

# name -> sampler, grid, steps; those of few steps begin where alpha^2 is 1e-4
SAMPLERS: dict[str, tuple[Sampler, Grid, int]] = {
    "DDPM": (DDPM("large"), Trailing(), ENTRIES),
    "DDIM eta 1": (DDIM(1.0), by_log_snr(50), len(by_log_snr(50).values)),
    "DDIM": (DDIM(), by_log_snr(50), len(by_log_snr(50).values)),
    "GHVB": (GHVB(), by_log_snr(20), len(by_log_snr(20).values)),
    "DDIM even": (DDIM(), evenly(50), 50),
}
# steps at the end that a statistic of the trajectory looks at; the authors' code has 10
WINDOWS = (3, 4, 5, 6, 8, 10, 15, 30)
# the rule of `renoise-probe`
NOISINGS, ALPHA, MARGIN, CUT = 32, 0.01, 1.75, 8.0
# samples per sampler, samples at a time, and real ones to calibrate with
_COUNT, _BATCH, _CALIBRATION = 10_000, 5000, 10_000
_SHOWN = 400


def statistics(steps: int) -> dict[str, dict[int, Filter]]:
    """The statistics of the trajectory by name and window: the paper's variance, one weighted by log-SNR, and the path's length."""
    windows = [w for w in WINDOWS if w <= steps]
    everything = (math.inf, -math.inf, math.inf)
    return {
        "variance": {w: TrajectoryVariance.paper(last=w) for w in windows},
        "weighted": {w: TrajectoryVariance(*everything, "log_snr", w) for w in windows},
        "path": {w: PathLength(*everything, w) for w in windows},
    }


def _walked(model: Model, name: str, filters: list[Filter], count: int, small: bool) -> tuple[Tensor, list[Tensor]]:
    """Samples, cut by nothing, and the score of each filter; what diverged is nan."""
    sampler, grid, steps = SAMPLERS[name]
    levels, path = grid(model.denoiser.schedule, steps), model.denoiser.schedule
    judges = [on_path(f, path) for f in filters]
    done = list(
        fill(
            on_path(sampler, path), lambda slots: model.denoiser, levels, range(1 << 20, (1 << 20) + count), model.shape,
            filters=judges, batch=100 if small else _BATCH,
        )
    )  # fmt: skip
    x = torch.cat([d.x for d in done]) / levels[-1].alpha
    return x, [torch.cat([d.verdicts[i].score for d in done]) for i in range(len(filters))]


def _round(value: Any) -> Any:
    """Numbers with five digits, so that the record can be read."""
    if isinstance(value, dict):
        return {k: _round(v) for k, v in value.items()}
    return round(value, 5) if isinstance(value, float) else value


def _judged(score: Tensor, bad: Tensor) -> dict[str, float | None]:
    return {"auc": auc(score, bad), "removed": removed_at_kept(score, bad), "kept": kept_at_removed(score, bad)}


@torch.no_grad()
def measure_modes(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Raw numbers of a trained cell: how often each sampler hallucinates and where, what each statistic could do about it with the best
    threshold that there is, and what the probe does about it with one found without labels.

    Args:
        folder: of the run.
        recipe: of `modes_recipe`.
    """
    model, small = load(folder), recipe.steps <= 100
    data = cast(Modes, recipe.data)
    count = 100 if small else _COUNT
    real = Modes(data.kind, 1000 if small else _CALIBRATION, seed=1)
    # an untrained network brings nothing back from anywhere
    asked = {k: RenoiseProbe(level=5.0 if small else None, k=k) for k in (8, NOISINGS)}
    found = {
        k: calibrate(
            model, f, real, held_out=True, alpha=ALPHA, count=len(real), cut=CUT if k == NOISINGS else PROBE_CUT, batch=1000
        ) for k, f in asked.items()
    }  # fmt: skip
    probes = {k: cast(RenoiseProbe, f.calibration.filter) for k, f in found.items()}
    raw: dict[str, Any] = {
        "level": probes[NOISINGS].level, "threshold": {str(k): p.threshold for k, p in probes.items()},
        "curve": [[p.log_snr, p.ratio] for p in found[NOISINGS].curve], "chance": _round(_chance(data)), "samplers": {},
    }  # fmt: skip
    for name, (_, _, steps) in SAMPLERS.items():
        stats = statistics(steps)
        # as a filter, a probe only scores here: its thresholds are tried afterwards
        looking: list[Filter] = [dataclasses.replace(p, threshold=math.inf) for p in probes.values()]
        watching = [f for by in stats.values() for f in by.values()]
        x, scores = _walked(model, name, [*looking, *watching], count, small)
        distance = torch.nan_to_num(data.distance(torch.nan_to_num(x, nan=1e9)), nan=math.inf)
        bad = distance > FAR
        named = iter(scores[len(looking) :])
        by_k = dict(zip(probes, scores, strict=False))
        away = x[bad & (distance < 1e3)]
        raw["samplers"][name] = {
            "count": count, "rate": float(bad.double().mean()), "beyond4": float((distance > 4).double().mean()),
            "beyond8": float((distance > 8).double().mean()),
            "between": _round(between(data, away)) if len(away) else None,
            "statistics": {s: {str(w): _round(_judged(next(named), bad)) for w in by} for s, by in stats.items()},
            "dropped": _round(_dropped(scores[len(looking) + list(stats["variance"]).index(10)], distance)),
            "probe": {
                str(k): _round(
                    {**_judged(by_k[k], bad), "plain": outcome(by_k[k], p.threshold, distance),
                     "rule": outcome(by_k[k], MARGIN * p.threshold, distance)}
                ) for k, p in probes.items()
            },
        }  # fmt: skip
        if name == "DDPM":
            kept = scores[1][bad & (distance < 1e3)] <= MARGIN * probes[NOISINGS].threshold
            raw["shown"] = {
                "points": [[round(v, 3) for v in p] for p in away[:_SHOWN].flatten(1).tolist()],
                "kept": kept[:_SHOWN].int().tolist(),
            }
    return raw


def _dropped(score: Tensor, distance: Tensor) -> dict[str, float | None]:
    """What the authors' recursion does: of 102,500 samples it drops the 2,500 with the highest variance over the last ten steps."""
    worst = torch.nan_to_num(score.double(), nan=math.inf)
    return outcome(worst, float(worst.sort().values[math.ceil(len(worst) / 1.025) - 1]), distance)


def _chance(data: Modes) -> dict[str, float]:
    """`between` of points that are far from all modes, anywhere among them."""
    low, high = data.centres.min(0).values, data.centres.max(0).values
    u = torch.rand(20_000, len(low), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (low + (high - low) * u)[:, :, None, None]
    # the box has corners that are not among the modes of a diamond
    apart = torch.pdist(data.centres).min() / data.std
    return between(data, x[data.hallucinated(x) & (data.distance(x) <= 0.71 * apart)])

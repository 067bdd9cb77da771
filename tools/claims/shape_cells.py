"""What is measured of a trained model of Simple Shapes: what it makes, and how every statistic tells what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Model, Recipe, load
from ...samplers import DDIM, DDPM, Sampler, on_path
from ...samplers.filters import Filter, PathLength, TrajectoryVariance, conformal_bounds
from ...samplers.refill import fill
from .separation import at_equal, auc, removed
from .shape_counter import WRONG, Found, count_shapes
from .shape_statistics import CHOSEN, features, probe, statistics_of, stored
from .shapes import drawn, planted

__all__ = ["PAPER", "SAMPLERS", "SHOWN", "measure"]

SAMPLERS: dict[str, tuple[Sampler, int]] = {"DDPM-100": (DDPM(), 100), "DDIM-50": (DDIM(), 50)}
PICTURES, LOOKED_AT = 1200, 400  # sampled of each sampler; good ones that are probed, besides every hallucinated one
REAL, PLANTED = 800, 200
WINDOWS = (5, 10, 20)
PAPER = "variance, last 10"
ALPHAS = (0.04, 0.01)
SHOWN = 8  # pictures of a kind on the sheet
# where the seeds begin: of samples, of real pictures that nothing was trained on, of planted ones
SAMPLED, HELD_OUT, PLANTED_AT = 1 << 20, 1 << 30, 1 << 31


@torch.no_grad()
def _sampled(model: Model, sampler: Sampler, steps: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Pictures cut to [-1, 1], and what watches the trajectory says of each."""
    windows = [w for w in WINDOWS if w <= steps]
    watching: dict[str, Filter] = {f"variance, last {w}": TrajectoryVariance.paper(last=w) for w in windows}
    watching |= {f"path length, last {w}": PathLength(low=-float("inf"), last=w) for w in windows}
    levels = model.grid(model.denoiser.schedule, steps)
    done = list(
        fill(
            on_path(sampler, model.denoiser.schedule), lambda _: model.denoiser, levels, range(SAMPLED, SAMPLED + count), model.shape,
            filters=list(watching.values()), batch=250,
        )
    )  # fmt: skip
    scores = {name: torch.cat([d.verdicts[i].score for d in done]) for i, name in enumerate(watching)}
    return (torch.cat([d.x for d in done]) / levels[-1].alpha).clamp(-1, 1), scores


def _digits(picture: Tensor) -> str:
    """A digit per pixel, 0 black and 9 white."""
    return "".join(str(round(v)) for v in ((picture.flatten() + 1) * 4.5).tolist())


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{v:.5g}") for v in values.tolist()]


def _row(scores: Tensor, found: Found) -> dict[str, Any]:
    """How one statistic does: `repeat` is two of a kind or a wrong column, of well-formed shapes; `own` two of a kind in their column."""
    good, repeat = ~found.any, (found.repeat | found.column) & ~found.malformed
    kinds = {
        "repeat": repeat,
        "own": repeat & ~found.column,
        "column": repeat & found.column,
        "malformed": found.malformed,
    }
    equal = {k: at_equal(auc, scores, bad, good, found.components) for k, bad in kinds.items()}
    groups = {"repeat": repeat, "malformed": found.malformed, "empty": found.empty, "any": found.any}
    return {
        "equal": {k: v for k, (v, _) in equal.items()}, "counted": {k: n for k, (_, n) in equal.items()},
        "removed_equal": {k: at_equal(removed, scores, bad, good, found.components)[0] for k, bad in kinds.items()},
        "auc": {k: auc(scores[bad], scores[good]) for k, bad in groups.items()},
        "removed": {k: removed(scores[bad], scores[good]) for k, bad in groups.items()},
    }  # fmt: skip


def _picked(found: Found, most: int) -> Tensor:
    """Every hallucinated picture, and the first good ones."""
    return torch.cat([found.any.nonzero().flatten(), (~found.any).nonzero().flatten()[:most]]).sort().values


def measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The raw numbers of a trained cell, and pictures of the first.

    Args:
        folder: of the run.
        recipe: that was trained.
    """
    model, small = load(folder, allow=["sfumato"]), recipe.steps <= 100
    network = model.denoiser.eval()
    count, most, real_count, plant_count = (40, 30, 60, 20) if small else (PICTURES, LOOKED_AT, REAL, PLANTED)
    real = drawn(torch.arange(real_count) + HELD_OUT, 32)[0]
    known, seen = probe(network, real, torch.arange(real_count) + HELD_OUT), features(network, real)
    half = real_count // 2  # one half is what is compared with, the other calibrates
    fitted = {at: type(p)(*(v[:half] for v in p)) for at, p in known.items()}, seen[:half]
    held = {at: type(p)(*(v[half:] for v in p)) for at, p in known.items()}
    real_scores = statistics_of(real[half:], held, held, seen[half:], *fitted)
    calibrated = {alpha: conformal_bounds(real_scores[CHOSEN], alpha if not small else 0.2)[1] for alpha in ALPHAS}
    raw: dict[str, Any] = {"samplers": {}, "pictures": {}, "real": real_count}
    for name, (sampler, steps) in SAMPLERS.items():
        x, watched = _sampled(model, sampler, 20 if small else steps, count)
        found = count_shapes(x)
        pick = _picked(found, most)
        kept = Found(*(getattr(found, f)[pick] for f in Found.__dataclass_fields__))
        x, seeds = x[pick], pick + SAMPLED
        scores = {k: v[pick] for k, v in watched.items()}
        sharp = probe(network, stored(x), seeds)
        scores |= statistics_of(x, probe(network, x, seeds), sharp, features(network, x), *fitted)
        good, bad = ~kept.any, kept.any
        raw["samplers"][name] = {
            "pictures": count, "rates": {w: int(getattr(found, w).sum()) for w in WRONG} | {"any": int(found.any.sum())},
            "components": found.components.bincount().tolist(), "rows": {k: _row(v, kept) for k, v in scores.items()},
            "rule": {
                str(alpha): {"lost": float((scores[CHOSEN][good] > most_).double().mean())}
                | {w: float((scores[CHOSEN][getattr(kept, w)] > most_).double().mean()) for w in WRONG}
                | {"any": float((scores[CHOSEN][bad] > most_).double().mean())}
                for alpha, most_ in calibrated.items()
            },
        }  # fmt: skip
        if recipe.seed == 0:
            raw["pictures"][name] = _shown(x, scores[CHOSEN], kept)
    copies = planted(torch.arange(plant_count) + PLANTED_AT, 32)
    looked = probe(network, copies, torch.arange(plant_count) + PLANTED_AT)
    planted_scores = statistics_of(copies, looked, looked, features(network, copies), *fitted)
    parts = torch.cat([count_shapes(copies).components, count_shapes(real[half:]).components])
    bad = torch.arange(len(parts)) < plant_count
    raw["planted"] = {
        k: at_equal(auc, torch.cat([v, real_scores[k]]), bad, ~bad, parts)[0] for k, v in planted_scores.items()
    }
    return raw


def _shown(x: Tensor, scores: Tensor, found: Found) -> dict[str, Any]:
    """The first pictures of every kind that there are, and of the good ones those that score lowest and highest."""
    order = scores.argsort()
    good = order[(~found.any)[order]]
    rows = {w: getattr(found, w).nonzero().flatten()[:SHOWN] for w in WRONG}
    rows |= {"good, lowest": good[:SHOWN], "good, highest": good.flip(0)[:SHOWN]}
    return {k: {"x": [_digits(p) for p in x[i]], "score": _rounded(scores[i])} for k, i in rows.items() if len(i)}

"""CFG with DDPM samples what predictor-corrector guidance of 2 gamma - 1 does, and neither samples the gamma-powered law.

Fixed before anything was sampled: the Gaussians (the paper's: cond N(0, 1), all N(0, 2), of one class), gammas, steps, and the effects.
Three measurements, all with our parts, DDPM under CFG(gamma) against PredictorCorrector(DDIM(), Langevin(), CFG(2 gamma - 1)): exact
variances on the Gaussians, where a trajectory is linear in its noise (no training, no sampling error, the same for every seed); samples of
the mixture by its exact denoiser, beside samples of its gamma-powered law; samples by the trained network. Effects are logarithms: how
much further the other law is from CFG with DDPM than predictor-corrector guidance is. The other law is the powered one, for Gaussians and
the exact denoiser, and CFG's own without noise (DDIM) for the trained network, whose powered law is unknown. The smallest counts. The
distance of two runs of the same under other seeds stands beside them.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion import Denoiser, Model, Recipe, load
from ...guidance import CFG, Guidance, Plain
from ...samplers import DDIM, DDPM, Langevin, PredictorCorrector, Sampler
from .claim import Cells, Claim, Finding, plus_minus, weakest
from .gaussian_laws import laws, variance
from .guided import ends, guided_recipe, in_turn, tiny
from .guided_measures import energy
from .mixture2d import ARMS, exact_noise, powered
from .scales import JUDGED

__all__ = ["CLAIM", "GAMMAS", "exact_model"]

GAMMAS, GAUSSIAN_STEPS, STEPS, POINTS = (1.5, 2.0, 3.0), (100, 400, 1600), 200, 6000


def _samplers(gamma: float) -> dict[str, tuple[Sampler, Guidance]]:
    """What is compared: sampler and rule."""
    return {
        "ddpm": (DDPM(), CFG(gamma)),
        "pcg": (PredictorCorrector(DDIM(), Langevin(), CFG(2 * gamma - 1)), Plain()),
        "ddim": (DDIM(), CFG(gamma)),
    }


class ExactNet(nn.Module):
    """The mixture's own E[eps | x] in place of a network that is told log-SNR / 4 on a variance-preserving path."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = ARMS
        self.unused = nn.Parameter(torch.zeros(()))  # says where the module is

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        log_snr = 4 * float(time[0])
        alpha, sigma = (math.sqrt(1 / (1 + math.exp(s))) for s in (-log_snr, log_snr))
        return exact_noise(x, alpha, sigma, labels)


def exact_model(model: Model) -> Model:
    """The same model with the exact denoiser of the mixture."""
    d = model.denoiser
    return dataclasses.replace(model, denoiser=Denoiser(ExactNet(), d.schedule, d.row, d.clock))


def _apart(x: Tensor, y: Tensor, labels: Tensor) -> float:
    """Energy distance, the mean over the classes."""
    return statistics.fmean(energy(x[labels == c], y[labels == c]) for c in range(ARMS))


def _samples(model: Model, steps: int, count: int, seed: int, with_power: bool) -> list[dict[str, float]]:
    """Distances between the laws, for every gamma; blocks of seeds differ, so that no two sets share noise."""
    labels, found = in_turn(model, count), []

    def block(k: int) -> range:
        first = JUDGED * (1 + 10 * seed + k)
        return range(first, first + count)

    for gamma in GAMMAS:
        of = {
            name: ends(model, rule, steps, block(k), sampler=sampler, batch=count)[0]
            for k, (name, (sampler, rule)) in enumerate(_samplers(gamma).items())
        }
        again = ends(model, CFG(gamma), steps, block(4), sampler=DDPM(), batch=count)[0]
        row = {"gamma": gamma, "same": _apart(of["ddpm"], again, labels)}
        row |= {name: _apart(of["ddpm"], of[name], labels) for name in ("pcg", "ddim")}
        if with_power:
            truth, seeds = torch.empty_like(again), torch.tensor(list(block(5)))
            for c in range(ARMS):
                truth[labels == c] = powered(gamma, c, seeds[labels == c])
            row["powered"] = _apart(of["ddpm"], truth, labels)
            row["powered_pcg"] = _apart(of["pcg"], truth, labels)
        found.append({k: round(v, 7) for k, v in row.items()})
    return found


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    model, small = load(folder), tiny(recipe)
    steps, count, gaussian = (4, 60, (10, 20)) if small else (STEPS, POINTS, GAUSSIAN_STEPS)
    return {
        "gaussian": [
            {"gamma": g, "steps": n, **{name: variance(s, r, n) for name, (s, r) in _samplers(g).items()}}
            for g in GAMMAS
            for n in gaussian
        ],
        "exact": _samples(exact_model(model), steps, count, recipe.seed, True),
        "trained": _samples(model, steps, count, recipe.seed, False),
    }


def _judge(cells: Cells) -> Finding:
    runs = list(cells["mixture"].values())

    def further(rows: list[Any], other: str) -> float:
        return statistics.fmean(math.log(max(r[other], 1e-12) / max(r["pcg"], 1e-12)) for r in rows)

    most = max(r["steps"] for r in runs[0]["gaussian"])
    last = [{g: next(r for r in c["gaussian"] if (r["gamma"], r["steps"]) == (g, most)) for g in GAMMAS} for c in runs]
    parts = {
        "Gaussians": [
            min(
                math.log(abs(laws(g)["powered"] - r["ddpm"]) / max(abs(r["pcg"] - r["ddpm"]), 1e-12))
                for g, r in of.items()
            )
            for of in last
        ],
        "mixture, exact denoiser": [further(c["exact"], "powered") for c in runs],
        "mixture, trained": [further(c["trained"], "ddim") for c in runs],
    }

    def text(which: str, what: str) -> str:
        return plus_minus([1000 * statistics.fmean(r[what] for r in c[which]) for c in runs], 2)

    two = last[0][2.0]
    ours = (
        f"Gaussians, gamma 2, {most} steps: variance {two['ddpm']:.4f} by CFG with DDPM, {two['pcg']:.4f} by predictor-corrector guidance "
        f"of 3 (limit {laws(2.0)['ddpm']:.4f}), powered {laws(2.0)['powered']:.4f}; mixture, 1000 x energy distance from CFG with "
        f"DDPM: {text('exact', 'pcg')} predictor-corrector, {text('exact', 'powered')} powered law, {text('exact', 'same')} the same "
        f"again; trained: {text('trained', 'pcg')} predictor-corrector, {text('trained', 'ddim')} CFG with DDIM, "
        f"{text('trained', 'same')} the same again"
    )
    notes = {
        "same_again_over_pcg": [[r["same"] / max(r["pcg"], 1e-12) for r in c["exact"] + c["trained"]] for c in runs],
        "powered_over_same_again": [[r["powered"] / max(r["same"], 1e-12) for r in c["exact"]] for c in runs],
    }
    return weakest(parts, ours, notes)


def _panels(cells: Cells) -> list[dict[str, Any]]:
    runs = list(cells["mixture"].values())
    rows = runs[0]["gaussian"]
    steps = sorted({r["steps"] for r in rows})
    gaussian = [
        {
            "name": f"gamma {g:g}, {name}", "x": steps, "color": k, "style": style,
            "y": [abs(r[key] - laws(g)["ddpm"]) for n in steps for r in rows if (r["gamma"], r["steps"]) == (g, n)],
        }
        for k, g in enumerate(GAMMAS)
        for key, name, style in (("ddpm", "CFG with DDPM", "o-"), ("pcg", "predictor-corrector", "s--"))
    ]  # fmt: skip
    panels = [
        {
            "title": "Gaussians",
            "x": "steps",
            "y": "error of the variance from the common limit",
            "log": "xy",
            "ticks": steps,
            "series": gaussian,
        }
    ]
    names = {"pcg": "predictor-corrector", "same": "the same again", "ddim": "CFG with DDIM", "powered": "powered law"}
    for which, title in (("exact", "mixture, exact denoiser"), ("trained", "mixture, trained network")):
        series = [
            {
                "name": names[what] if k == 0 else None, "x": list(GAMMAS), "y": [max(r[what], 1e-9) for r in c[which]], "color": color,
                "style": "o-",
            }
            for color, what in enumerate(names)
            for k, c in enumerate(runs)
            if what in c[which][0]
        ]  # fmt: skip
        panels.append(
            {
                "title": title,
                "x": "gamma",
                "y": "energy distance from CFG with DDPM",
                "log": "y",
                "ticks": GAMMAS,
                "series": series,
            }
        )
    return panels


CLAIM = Claim(
    name="cfg-is-predictor-corrector",
    paper="Bradley & Nakkiran 2024",
    arxiv="2408.09000",
    promise="CFG with DDPM at gamma is predictor-corrector guidance at 2 gamma - 1, and neither samples the gamma-powered law",
    figure="a theorem in the limit of small steps; shown in pictures (SDXL)",
    measurement="cfg-is-predictor-corrector",
    variants=("mixture",),
    recipe=guided_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    keeps_runs=True,
)

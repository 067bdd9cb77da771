"""What the claims on guidance share: the two models that are guided, and how their samples are drawn under a rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...diffusion import Digits, LogSNRClock, Model, Recipe, UNet
from ...guidance import Branch, Field, Guidance, Plain
from ...samplers import DPMSolverPP, Sampler, on_path
from ...samplers.refill import fill
from ...schedules import Constant, Eps, Karras, ScaledLinearBeta, Trailing
from .mixture2d import Arms, PointNet

__all__ = ["VARIANTS", "ends", "field", "guided_recipe", "in_turn", "tiny", "tiny_count"]

VARIANTS = ("digits", "mixture")


def guided_recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """Eps networks whose labels are dropped, so that CFG has a reference: of the digits as in `momentum`, and of the mixture.

    The mixture's network is small and not trained for long, so that guidance has something to mend.
    """
    torch.manual_seed(seed)
    if variant == "digits":
        return Recipe(
            data=Digits(), backbone=UNet(1, 8, 10, width=16, multipliers=(1, 2), blocks=1, attention=()),
            schedule=ScaledLinearBeta(), row=Eps(), clock=LogSNRClock(), weighting=Constant(Eps()),
            steps=4 if quick else 1200, batch=8 if quick else 64, lr=5e-3, warmup=50, ema=0.98, label_dropout=0.1, seed=seed,
            threads=1, grid=Trailing(), sampling_steps=4 if quick else 20, guidance=Plain(), save_every=2 if quick else 75,
            keep=16,
        )  # fmt: skip
    return Recipe(
        data=Arms(60 if quick else 6000), backbone=PointNet(width=8 if quick else 32),
        schedule=ScaledLinearBeta(), row=Eps(), clock=LogSNRClock(), weighting=Constant(Eps()),
        steps=4 if quick else 800, batch=8 if quick else 256, lr=5e-3, warmup=50, ema=0.99, label_dropout=0.1, seed=seed,
        threads=1, grid=Karras(), sampling_steps=4 if quick else 24, guidance=Plain(), save_every=2 if quick else 50, keep=16,
    )  # fmt: skip


def tiny(recipe: Recipe) -> bool:
    """Whether this is the recipe of a quick version."""
    return recipe.steps <= 100


def tiny_count(count: int) -> int:
    """How many pictures instead of `count` in a quick version."""
    return min(count, 30)


def in_turn(model: Model, count: int) -> Tensor:
    """Classes in turn, one per picture, int64 (count,)."""
    return torch.arange(count) % model.num_classes


def field(model: Model, rule: Guidance, labels: Tensor, weak: Model | None = None) -> Field:
    """The model under a rule, with a weaker network of the same condition as branch "weak".

    Args:
        model: of classes, trained with labels dropped.
        rule: the guidance.
        labels: int64 (N,).
        weak: for Autoguidance.
    """
    conditions = model.conditions(labels, len(labels))
    branches = {name: Branch(model.denoiser, c) for name, c in conditions.items()}
    if weak is not None:
        branches["weak"] = Branch(weak.denoiser, conditions["cond"])
    return Field(branches, rule, len(labels))


@torch.no_grad()
def ends(
    model: Model, rule: Guidance, steps: int, seeds: Sequence[int], *, sampler: Sampler | None = None, weak: Model | None = None,
    batch: int = 250,
) -> tuple[Tensor, float]:  # fmt: skip
    """Where trajectories end under a rule, cut by nothing, and evaluations per picture; picture i is of class i mod classes.

    Args:
        model: of classes, trained with labels dropped.
        rule: the guidance.
        steps: of the model's grid.
        seeds: one per picture; every setting of the same seeds starts from the same noise.
        sampler: None: DPM-Solver++ of order 2.
        weak: a weaker network, the branch "weak".
        batch: pictures at a time.
    """
    schedule, labels = model.denoiser.schedule, in_turn(model, len(seeds))
    levels = model.grid(schedule, steps)
    on = on_path(sampler or DPMSolverPP(2), schedule)
    done = list(
        fill(on, lambda slots: field(model, rule, labels[slots], weak), levels, seeds, model.shape, batch=batch)
    )
    spent = sum(int(d.evaluations.sum()) for d in done) / len(seeds)
    return torch.cat([d.x for d in done]) / levels[-1].alpha, spent

"""What the claims on measures share: digits, drawn anew from all 1,797 for every measurement, and a recipe of which only the data count."""

from __future__ import annotations

import torch
from torch import Tensor

from ...diffusion import Digits, LogSNRClock, Recipe, UNet
from ...schedules import Constant, Eps, ScaledLinearBeta
from ...schedules.noise import Stream, integers, uniform

__all__ = ["VARIANTS", "all_digits", "drawn_recipe", "drawn_rows", "noise_pictures"]

VARIANTS = ("digits",)


def drawn_recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """The digits and a seed, in the form that claims have; nothing is trained. Of the quick version fewer steps, by which it is known."""
    return Recipe(
        data=Digits(), backbone=UNet(1, 8, 10, width=8, multipliers=(1,), blocks=1, attention=()), schedule=ScaledLinearBeta(), row=Eps(),
        clock=LogSNRClock(), weighting=Constant(Eps()), steps=1 if quick else 2, warmup=1, batch=8, seed=seed, threads=1,
    )  # fmt: skip


def all_digits() -> Tensor:
    """Pixels in [-1, 1] as features, float64 (1797, 64)."""
    data = Digits()
    return data.batch(torch.arange(len(data))).x.flatten(1).double()


def drawn_rows(count: int, size: int, seed: int, number: int) -> Tensor:
    """Which of `size` pictures are drawn, each at any draw: what is drawn comes from the law of all of them, to which truths refer.

    Args:
        count: how many.
        size: of how many.
        seed, number: of the run, and of the draw in it.
    """
    return integers(torch.tensor([seed]), number, 0, count, Stream.MEASURE)[0] % size


def noise_pictures(count: int, seed: int, number: int) -> Tensor:
    """Pixels without any structure, uniform in [-1, 1], float64 (count, 64); arguments as of `drawn_rows`."""
    return 2 * uniform(torch.tensor([seed]), number, 1, count * 64, Stream.MEASURE).view(count, 64) - 1

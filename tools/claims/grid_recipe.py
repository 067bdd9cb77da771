"""What is trained on the square grid of narrow modes where a model must be had in seconds."""

from __future__ import annotations

import torch

from ...diffusion import AdamW, LogSNRClock, Recipe
from ...guidance import Plain
from ...samplers import DDPM
from ...schedules import Constant, Eps, Explicit, LogNormal
from .fourier_net import FourierNet
from .modes import Modes
from .modes_recipe import table

__all__ = ["STEPS", "grid_recipe"]

# entries of the authors' table: of the last twenty every one, so that the last ten steps are theirs; then fewer and fewer
STEPS = (*range(299, 99, -10), *range(95, 19, -5), *range(19, -1, -1))


def grid_recipe(seed: int, quick: bool, count: int, classes: bool = False) -> Recipe:
    """A small network for few steps, so chosen that of its DDPM samples some percent are hallucinated, and DDPM in 56 steps.

    Args:
        seed: of the weights and of all that training draws; the data are the same.
        quick: a few steps of a tiny network.
        count: points of the data.
        classes: whether the network is told the class of a point; a tenth of the labels are dropped.
    """
    torch.manual_seed(seed)
    return Recipe(
        data=Modes("grid", 200 if quick else count, classes=classes),
        backbone=FourierNet(2, 5 if classes else 0, width=8 if quick else 64), schedule=table(), row=Eps(), clock=LogSNRClock(),
        density=LogNormal(-1.2, 1.2), weighting=Constant(Eps()), steps=4 if quick else 500, batch=8 if quick else 256, lr=1e-2,
        warmup=50, optimizer=AdamW(beta2=0.999), ema=0.99, label_dropout=0.1 if classes else 0.0, seed=seed, threads=1,
        sampler=DDPM("large"), grid=Explicit(STEPS, "index"), sampling_steps=len(STEPS), guidance=Plain(), save_every=0, keep=1,
    )  # fmt: skip

"""Simple Shapes."""

from __future__ import annotations

import torch

from ...diffusion import LogSNRClock, Recipe
from ...guidance import Plain
from ...samplers import DDPM
from ...schedules import Constant, Cosine, Trailing, V
from .shapes import Shapes
from .unshuffled import UnshuffledUNet


def shapes_recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """A v network of about a million parameters on 5000 pictures of 32 pixels."""
    torch.manual_seed(seed)
    return Recipe(
        data=Shapes(60 if quick else 5000, 32), backbone=UnshuffledUNet(width=8 if quick else 48), schedule=Cosine(), row=V(),
        clock=LogSNRClock(), weighting=Constant(V()), steps=4 if quick else 2600, batch=8 if quick else 64, lr=2e-3, warmup=100,
        ema=0.998, label_dropout=0.0, seed=seed, threads=1, sampler=DDPM(), grid=Trailing(), sampling_steps=4 if quick else 100,
        guidance=Plain(), save_every=2 if quick else 650, keep=16, precision="bf16",
    )  # fmt: skip

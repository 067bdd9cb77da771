"""The larger the picture, the smaller the best scale of the data."""

from __future__ import annotations

import hashlib
import math
import statistics
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...diffusion import Batch, Digits, LogSNRClock, Recipe, UNet, load
from ...diffusion.measuring.judge import Judge, measure, train_judge
from ...guidance import Plain
from ...schedules import Constant, Cosine, Eps, InputScaled, Trailing, V
from .claim import Cells, Claim, Finding, plus_minus, verdict

__all__ = ["CLAIM", "LargeDigits"]

SIZES, SCALES, PICTURES = (8, 16), (1.4, 1.0, 0.7, 0.5, 0.35), 1000
VARIANTS = {f"{size}px-b{scale}": (size, scale) for size in SIZES for scale in SCALES}


@dataclass(frozen=True)
class LargeDigits:
    """The digits, enlarged bilinearly: the same pictures in more pixels.

    Args:
        size: height and width, a multiple of 8.

    Raises:
        ValueError: for another size.
    """

    size: int = 16

    def __post_init__(self) -> None:
        if self.size < 8 or self.size % 8:
            raise ValueError(f"LargeDigits.size is {self.size}; allowed: multiples of 8")

    @cached_property
    def _arrays(self) -> tuple[Tensor, Tensor]:
        digits = Digits()
        x, labels, _ = digits.batch(torch.arange(len(digits)))
        assert labels is not None
        return F.interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False), labels

    def __len__(self) -> int:
        return len(self._arrays[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    @property
    def num_classes(self) -> int:
        return 10

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._arrays[0].numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        x, labels = self._arrays
        return Batch(x[index], labels[index])


def _recipe(variant: str, seed: int, quick: bool) -> Recipe:
    """As the paper: a constant weight on eps, the cosine path, and the network's input scaled to unit variance."""
    size, scale = VARIANTS[variant]
    torch.manual_seed(seed)
    return Recipe(
        data=LargeDigits(size), backbone=UNet(1, size, 10, width=8 if quick else 16, multipliers=(1, 2, 2), blocks=1, attention=()),
        schedule=InputScaled(Cosine(), scale), row=V(), clock=LogSNRClock(), input_std=1.0, weighting=Constant(Eps()),
        steps=2 if quick else 400, batch=8 if quick else 64, lr=5e-3, warmup=50, ema=0.98, seed=seed, threads=1, grid=Trailing(),
        sampling_steps=2 if quick else 20, guidance=Plain(), save_every=0 if quick else 200,
    )  # fmt: skip


@cache
def _known_judge() -> Judge:
    return train_judge(Digits())


def _measure(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """The Frechet distance of samples from the data, both averaged down to 8x8, where the judge sees them."""
    count, source = PICTURES if recipe.steps > 100 else 20, recipe.data
    labels = torch.arange(count) % 10
    images = load(folder).sample(range(count), labels, batch=250, progress=True).images
    real, fake = (F.adaptive_avg_pool2d(x, 8) for x in (source.batch(torch.arange(len(source))).x, images))
    return measure(_known_judge(), real, fake, labels)


def _by_seed(cells: Cells, size: int) -> dict[int, dict[float, float]]:
    """Distances by seed and scale."""
    of = {scale: cells[v] for v, (s, scale) in VARIANTS.items() if s == size and v in cells}
    return {seed: {scale: of[scale][seed]["frechet"] for scale in of} for seed in next(iter(of.values()))}


def _judge(cells: Cells) -> Finding:
    """The scale with the smallest distance, per size and seed: by which factor it is smaller for the larger pictures."""
    best = {s: [min(d, key=lambda b: d[b]) for d in _by_seed(cells, s).values()] for s in SIZES}
    small, large = SIZES
    shift = [math.log(a / b) for a, b in zip(best[small], best[large], strict=True)]
    ours = "best b " + ", ".join(f"{plus_minus(best[s])} at {s}x{s}" for s in SIZES)
    means = {v: statistics.fmean(cell["frechet"] for cell in of.values()) for v, of in cells.items()}
    return Finding(shift, ours, verdict(shift), {"best": {str(s): b for s, b in best.items()}, "mean_frechet": means})


def _panels(cells: Cells) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = []
    for size in SIZES:
        series = [
            {"name": f"seed {seed}", "x": list(d), "y": list(d.values()), "color": seed, "style": "o-"}
            for seed, d in _by_seed(cells, size).items()
        ]
        panels.append(
            {
                "title": f"{size}x{size}", "x": "scale b of the data", "y": "Frechet distance (judge's features)", "log": "x",
                "ticks": SCALES, "series": series,
            }
        )  # fmt: skip
    return panels


CLAIM = Claim(
    name="input-scaling",
    paper="Chen 2023",
    arxiv="2301.10972",
    promise="the larger the picture, the smaller the best scale b of the data",
    figure="noisier is better as size grows (ImageNet, 64 to 1024)",
    measurement="input-scaling",
    variants=tuple(VARIANTS),
    recipe=_recipe,
    measure=_measure,
    judge=_judge,
    panels=_panels,
    quick_variants=("8px-b1.0", "8px-b0.5", "16px-b1.0", "16px-b0.5"),
)

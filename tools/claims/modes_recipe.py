"""What is trained on `Modes`: the authors' network and betas, for fewer steps."""

from __future__ import annotations

import torch

from ...diffusion import AdamW, Recipe, TimeClock
from ...guidance import Plain
from ...samplers import DDPM
from ...schedules import BetaTable, Constant, Eps, Explicit, Trailing, UniformEntries
from .modes import KINDS, Kind, Modes
from .tied_net import TiedNet

__all__ = ["ENTRIES", "by_log_snr", "evenly", "modes_recipe", "table"]

# of the authors' 1000: alpha^2 of entry 399 is 5e-8, and what follows is noise
ENTRIES = 400
# where a few steps begin: alpha^2 is 1e-4 at this entry, and from log-SNR -16.8 deterministic steps overflow
_START = 299
# samples and training steps
_COUNTS = {"line": 20_000, "gap": 50_000, "grid": 100_000, "rotated": 100_000}
_STEPS = {"line": 4000, "gap": 15_000, "grid": 30_000, "rotated": 30_000}


def table() -> BetaTable:
    """The first 400 entries of the authors' 1000, beta 0.001 to 0.2."""
    return BetaTable("linear", ENTRIES, low=0.001, high=0.001 + 0.199 * (ENTRIES - 1) / 999)


def modes_recipe(variant: str, seed: int, quick: bool, classes: bool = False) -> Recipe:
    """The authors' recipe but for: 512 points a step instead of 10,000, and fewer steps than 100,000 (4,000 on the line, 15,000 with the
    gap, 30,000 in the plane), hence an average, and in the plane a rate that falls; 400 of 1000 entries, told to the network as 1 to 400.

    Args:
        variant: of `Modes`.
        seed: of the weights and of all that training draws; the data are the same.
        quick: a few steps of a tiny network.
        classes: whether the network is told the class of a point, for "grid"; a tenth of the labels are dropped.

    Raises:
        ValueError: for another variant.
    """
    if variant not in KINDS:
        raise ValueError(f"variant is {variant!r}; allowed: {', '.join(KINDS)}")
    kind: Kind = variant
    data = Modes(kind, 100 if quick else _COUNTS[kind], classes=classes)
    torch.manual_seed(seed)
    backbone = TiedNet(data.shape[0], data.num_classes, width=8 if quick else 128)
    return Recipe(
        data=data, backbone=backbone, schedule=table(), row=Eps(), clock=TimeClock(ENTRIES), density=UniformEntries(),
        weighting=Constant(Eps()), steps=4 if quick else _STEPS[kind], batch=8 if quick else 512,
        lr=1e-3, lr_end=0.01 if data.shape[0] == 2 else 1.0, warmup=0, optimizer=AdamW(beta2=0.999), clip=None, ema=0.999,
        label_dropout=0.1 if classes else 0.0, seed=seed, threads=1,
        sampler=DDPM("large"), grid=Trailing(), sampling_steps=ENTRIES, guidance=Plain(), log_every=2 if quick else 500,
        save_every=2 if quick else 5000, keep=1,
    )  # fmt: skip


def by_log_snr(steps: int) -> Explicit:
    """Entries at nearly equal steps in log-SNR, from alpha^2 1e-4 to the first; less than `steps` where two fall on one entry."""
    path = table()
    low, high = (float(path((i + 1) / ENTRIES).log_snr) for i in (_START, 0))
    at = [path.at_log_snr(low + (high - low) * k / (steps - 1)).t for k in range(steps)]
    return Explicit(sorted({round(float(t) * ENTRIES) - 1 for t in at}, reverse=True), "index")


def evenly(steps: int) -> Explicit:
    """Entries at nearly equal steps in their number, from alpha^2 1e-4 to the first."""
    return Explicit([round(_START * (1 - k / (steps - 1))) for k in range(steps)], "index")

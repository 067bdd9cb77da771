"""A model that hallucinates without being trained: the exact posterior mean of 25 modes, with responsibilities that are too smooth.

The grid and its table of betas are those of Aithal et al. 2024 (2406.09358). A network can't change its mind as fast as the data ask of
it; here that is a number, `blur`, added to the variance by which the modes are told apart. With blur 0 nothing lands between modes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from sfumato.diffusion import Batch, Denoiser, LogSNRClock, Model
from sfumato.samplers import DDPM
from sfumato.schedules import X0, InputScaled, LogSNRUniform, Table, trailing

# 2 * {-2 .. 2} with standard deviation 0.05, over the standard deviation of it all
SPREAD = math.sqrt(0.05**2 + 8)
# half of the authors' data, since pictures lie within [-1, 1]; the path scales them back
HALF = 0.5
MODES, STD = torch.arange(-2, 3) * 2 / SPREAD, 0.05 / SPREAD
# entries 400 to 999 of the authors' table are noise: alpha^2 is 5e-8 at 399
ENTRIES = torch.linspace(0.001, 0.2, 1000, dtype=torch.float64)[:400].tolist()
PATH = InputScaled(Table.from_betas(ENTRIES), 1 / HALF)
# 48 steps of equal log-SNR from alpha^2 = 1e-4 of the authors' path
EVEN = LogSNRUniform(low=math.log(1e-4 / (1 - 1e-4)) - 2 * math.log(HALF))


class Smooth(nn.Module):
    """The posterior mean of the grid, coordinate by coordinate: x (B, 1, 1, 2), time is the log-SNR of PATH.

    blur: standard deviation that is added, in the units of the authors' data.
    """

    def __init__(self, blur: float) -> None:
        super().__init__()
        self.blur = nn.Parameter(torch.tensor(blur), requires_grad=False)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        own = (time + 2 * math.log(HALF)).view(-1, 1, 1, 1, 1)
        alpha, variance = own.sigmoid().sqrt(), (-own).sigmoid()
        total = alpha**2 * STD**2 + variance
        away = x[..., None] - alpha * MODES
        share = torch.softmax(-(away**2) / (2 * (total + self.blur**2)), -1)
        return HALF * (share * (MODES + alpha * STD**2 / total * away)).sum(-1)


def smooth(blur: float) -> Model:
    """The model, sampled by default as the authors do: DDPM, fixed-large variance, every entry."""
    denoiser = Denoiser(Smooth(blur), PATH, X0(), LogSNRClock(1.0))
    return Model(denoiser, (1, 1, 2), sampler=DDPM("large"), grid=trailing, steps=len(ENTRIES))


@dataclass(frozen=True)
class Grid25:
    """Real points of the 25 modes as pictures (1, 1, 2), halved."""

    count: int
    seed: int = 0

    @cached_property
    def points(self) -> torch.Tensor:
        made = torch.Generator().manual_seed(self.seed)
        place = MODES[torch.randint(0, 5, (self.count, 2), generator=made)]
        return HALF * (place + STD * torch.randn(self.count, 2, generator=made)).view(-1, 1, 1, 2)

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 1, 2

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def fingerprint(self) -> str:
        return f"grid25-{self.count}-{self.seed}"

    def batch(self, index: torch.Tensor) -> Batch:
        return Batch(self.points[index], None)


def distance(images: torch.Tensor) -> torch.Tensor:
    """To the nearest mode, in standard deviations of a mode, (N,)."""
    points = images.flatten(1).double()[..., None] / HALF
    return (points - MODES.double()).abs().amin(-1).norm(dim=1) / STD


def removed_at(score: torch.Tensor, bad: torch.Tensor, kept: float = 0.96) -> float:
    """The share of the bad that scores above the threshold that keeps `kept` of the others: chosen with labels, an upper bound."""
    return float((score[bad] > torch.quantile(score[~bad].double(), kept)).double().mean())

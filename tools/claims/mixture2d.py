"""Points in the plane whose law is known: classes that are mixtures of Gaussians along arms that meet, and a small network for them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion import Batch
from ...diffusion.backbones.embedding import Conditioning
from ...schedules.noise import Stream, gaussian, integers, uniform

__all__ = [
    "ARMS",
    "COMPONENTS",
    "STD",
    "Arms",
    "PointNet",
    "centres",
    "drawn",
    "exact_noise",
    "nearest",
    "powered",
    "squared_lengths",
]

# classes, Gaussians per class, their standard deviation in both directions
ARMS, COMPONENTS, STD = 3, 8, 0.04


def centres() -> Tensor:
    """Means of the Gaussians, (ARMS, COMPONENTS, 2): each class an arm that turns outwards from near the middle, where all meet."""
    place = torch.arange(COMPONENTS, dtype=torch.float32)
    angle = 2 * math.pi * torch.arange(ARMS, dtype=torch.float32)[:, None] / ARMS + 0.28 * place
    radius = 0.1 + 0.1 * place
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def drawn(seeds: Tensor, labels: Tensor) -> Tensor:
    """Exact samples of classes, (N, 2, 1, 1), each a function of its seed.

    Args:
        seeds: int64 (N,).
        labels: int64 (N,), 0 to ARMS - 1.
    """
    which = integers(seeds, 0, 0, 1, Stream.SAMPLE)[:, 0] % COMPONENTS
    noise = gaussian(seeds, 1, 0, 0, (2,))
    return (centres()[labels, which] + STD * noise)[:, :, None, None]


def squared_lengths(x: Tensor, labels: Tensor) -> Tensor:
    """Squared distances of points from every Gaussian of their class, in its standard deviations, (N, COMPONENTS)."""
    return (x.flatten(1)[:, None].double() - centres().double()[labels]).square().sum(-1) / STD**2


def nearest(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest Gaussian of each point's class, int64 (N,), and how far it is, in standard deviations, (N,)."""
    found = squared_lengths(x, labels).min(1)
    return found.indices, found.values.sqrt()


@dataclass(frozen=True)
class Arms:
    """Exact samples of the mixture, classes in turn.

    Args:
        count: how many, >= ARMS.

    Raises:
        ValueError: for fewer.
    """

    count: int = 6000

    def __post_init__(self) -> None:
        if self.count < ARMS:
            raise ValueError(f"Arms.count is {self.count}; allowed: >= {ARMS}, one of each class")

    @cached_property
    def _arrays(self) -> tuple[Tensor, Tensor]:
        labels = torch.arange(self.count) % ARMS
        return drawn(torch.arange(self.count) + (1 << 40), labels), labels

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int]:
        return 2, 1, 1

    @property
    def num_classes(self) -> int:
        return ARMS

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._arrays[0].numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        x, labels = self._arrays
        return Batch(x[index], labels[index])


class PointNet(nn.Module):
    """Residual layers on a point, each told the time and the class.

    Args:
        num_classes: classes; class `num_classes` is the null class.
        width: of the layers.
        layers: how many, >= 1.
    """

    def __init__(self, num_classes: int = ARMS, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        self.config: dict[str, object] = {"num_classes": num_classes, "width": width, "layers": layers}
        self.num_classes = num_classes
        self.told = Conditioning(num_classes, 32, width)
        self.first = nn.Linear(2, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.tell = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output, like x (B, 2, 1, 1), for times (B,) and labels (B,), None: the null class."""
        told = F.silu(self.told(len(x), time, labels))
        h = self.first(x.flatten(1))
        for layer, tell in zip(self.layers, self.tell, strict=True):
            h = h + F.silu(layer(h) + tell(told))
        return self.last(h)[:, :, None, None]


def exact_noise(x: Tensor, alpha: float, sigma: float, labels: Tensor) -> Tensor:
    """E[eps | x] under the mixture, like x (N, 2, 1, 1), of a class per point; label ARMS is all classes together."""
    points, means = x.flatten(1).double(), centres().double()
    away = points[:, None] - alpha * means.flatten(0, 1)
    variance = alpha**2 * STD**2 + sigma**2
    owner = torch.arange(ARMS).repeat_interleave(COMPONENTS)
    mine = (labels[:, None] == owner) | (labels[:, None] == ARMS)
    score = (-away.square().sum(-1) / (2 * variance)).masked_fill(~mine, -math.inf)
    return (sigma / variance * (torch.softmax(score, 1)[..., None] * away).sum(1)).to(x)[:, :, None, None]


def powered(gamma: float, label: int, seeds: Tensor, bins: int = 1600) -> Tensor:
    """Samples of the law p(x)^(1 - gamma) p(x | class)^gamma, drawn on a fine grid, (N, 2, 1, 1), each a function of its seed.

    Args:
        gamma: the power.
        label: of the class.
        seeds: int64 (N,).
        bins: of the grid per direction, over [-1.2, 1.2].
    """
    edge = torch.linspace(-1.2, 1.2, bins + 1, dtype=torch.float64)
    at = (edge[1:] + edge[:-1]) / 2
    each = []
    for arm in centres().double():
        across, up = (-(at[None] - arm[:, i : i + 1]).square() / (2 * STD**2) for i in (0, 1))
        peak = torch.maximum(across.max(), up.max())
        each.append((across - peak).exp().T @ (up - peak).exp())
    total = torch.stack(each).sum(0).clamp_min(1e-300).log()
    density = (gamma * each[label].clamp_min(1e-300).log() + (1 - gamma) * total).flatten()
    chance = torch.softmax(density, 0).cumsum(0)
    u = uniform(seeds, 0, 0, 3, Stream.SAMPLE)
    cell = torch.searchsorted(chance, u[:, 0].contiguous()).clamp(max=bins * bins - 1)
    width = 2.4 / bins
    x = torch.stack([at[cell // bins], at[cell % bins]], 1) + (u[:, 1:] - 0.5) * width
    return x.float()[:, :, None, None]

"""A network that learns narrow modes in the plane in a thousand steps: it sees waves of the coordinates too."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.backbones.embedding import Conditioning

__all__ = ["FourierNet"]


class FourierNet(nn.Module):
    """Residual layers on a point and on cosines and sines of its coordinates, each told the time and the class.

    Args:
        channels: coordinates of a point.
        num_classes: classes; class `num_classes` is the null class. 0: none.
        width: of the layers.
        layers: how many, >= 1.
        octaves: frequencies of the waves, 1, 2, 4, ... radians per unit, >= 0.

    Source: Tancik et al. 2020 (2006.10739), the waves.
    """

    def __init__(
        self, channels: int = 2, num_classes: int = 0, width: int = 64, layers: int = 3, octaves: int = 3
    ) -> None:
        super().__init__()
        self.config: dict[str, object] = {
            "channels": channels, "num_classes": num_classes, "width": width, "layers": layers, "octaves": octaves,
        }  # fmt: skip
        self.num_classes, self.octaves = num_classes, octaves
        self.told = Conditioning(num_classes, 32, width)
        self.first = nn.Linear(channels * (1 + 2 * octaves), width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.tell = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.last = nn.Linear(width, channels)

    def seen(self, x: Tensor) -> Tensor:
        """What is seen of points: coordinates, then their cosines and sines, (B, channels (1 + 2 octaves)).

        Args:
            x: (B, channels, 1, 1).
        """
        flat = x.flatten(1)
        waves = (flat[:, :, None] * 2.0 ** torch.arange(self.octaves, device=x.device)).flatten(1)
        return torch.cat([flat, waves.cos(), waves.sin()], 1)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output, like x (B, channels, 1, 1), for times (B,), and labels (B,), None: the null class."""
        told = F.silu(self.told(len(x), time, labels))
        h = self.first(self.seen(x))
        for layer, tell in zip(self.layers, self.tell, strict=True):
            h = h + F.silu(layer(h) + tell(told))
        return self.last(h)[:, :, None, None]

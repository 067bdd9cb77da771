"""The network in which mode interpolation was found: three residual layers that share their weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.backbones.embedding import sinusoid

__all__ = ["TiedNet"]

_SLOPE = 0.02


class TiedNet(nn.Module):
    """Residual layers on a point, each told the time; all of them are one and the same layer, as in the authors' code.

    Args:
        channels: coordinates of a point.
        num_classes: classes; class `num_classes` is the null class. 0: none.
        width: of the layer.
        layers: how often it is applied, >= 1.

    Source: Aithal et al. 2024 (2406.09358), their code, which repeats one module object in a list.
    """

    def __init__(self, channels: int = 2, num_classes: int = 0, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        self.config: dict[str, object] = {
            "channels": channels, "num_classes": num_classes, "width": width, "layers": layers,
        }  # fmt: skip
        self.num_classes, self.width, self.layers = num_classes, width, layers
        self.first = nn.Linear(channels, width, bias=False)
        self.time = nn.Linear(width, width)
        self.label = nn.Embedding(num_classes + 1, width) if num_classes else None
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.enter, self.leave = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.tell = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, channels)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output, like x (B, C, 1, 1), for times (B,) counted in entries, and labels (B,), None: the null class."""
        told = F.leaky_relu(self.time(sinusoid(time, self.width)), _SLOPE)
        if self.label is not None:
            null = torch.full((len(x),), self.num_classes, device=x.device) if labels is None else labels
            told = told + self.label(null)
        told = self.tell(told)
        h = self.first(x.flatten(1))
        for _ in range(self.layers):
            inner = self.enter(F.leaky_relu(self.norm_in(h), _SLOPE)) + told
            h = h + self.leave(F.leaky_relu(self.norm_out(inner), _SLOPE))
        return self.last(self.norm(h))[:, :, None, None]

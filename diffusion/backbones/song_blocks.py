"""The parts of DDPM++ and NCSN++: time waves, one-headed attention, the residual block that resamples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .blocks import norm
from .resample import halve

__all__ = ["BINOMIAL", "NEARLY_ZERO", "OneHead", "Pyramid", "Residual", "Waves", "fine_norm", "started"]

LOWEST = 1e-4  # the lowest frequency of the sinusoid, the highest is 1
BANDWIDTH = 16.0  # standard deviation of NCSN++'s frequencies, in cycles per unit of time
BINOMIAL = (1, 3, 3, 1)
NEARLY_ZERO = 1e-5  # what the last layer of every branch is multiplied by at the start

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def started(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with Glorot's uniform weights times a gain, and a bias of zero."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def fine_norm(channels: int) -> nn.GroupNorm:
    """The house's norm, with the smaller epsilon of these networks."""
    layer = norm(channels)
    layer.eps = 1e-6
    return layer


class Waves(nn.Module):
    """sin and cos of the time, at geometric frequencies from 1 to 1e-4 with both ends (DDPM++), or at random ones, kept (NCSN++)."""

    def __init__(self, features: int, fourier: bool) -> None:
        super().__init__()
        self.each = features // 2
        if fourier:
            self.register_buffer("frequencies", BANDWIDTH * torch.randn(self.each))

    def forward(self, time: Tensor) -> Tensor:
        """float32 (B,) to float32 (B, features): all sines, then all cosines."""
        random = getattr(self, "frequencies", None)
        if random is None:
            rates = LOWEST ** (torch.arange(self.each, dtype=torch.float32, device=time.device) / (self.each - 1))
        else:
            rates = 2 * math.pi * random.float()
        angles = time[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class OneHead(nn.Module):
    """(x + attention among all pixels) / sqrt(2), in one head of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = fine_norm(channels)
        self.qkv = started(nn.Conv2d(channels, 3 * channels, 1), math.sqrt(0.2))
        self.attend = Attention()
        self.out = started(nn.Conv2d(channels, channels, 1), NEARLY_ZERO)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (s d) y x -> s b 1 (y x) d", s=3).unbind()
        out = rearrange(self.attend(q, k, v), "b 1 (y x) d -> b d y x", y=x.shape[2])
        return (x + self.out(out)) * math.sqrt(0.5)


class Residual(nn.Module):
    """(skip + two convolutions) / sqrt(2), the second after a norm of what the first made plus the conditioning; then attention.

    Args:
        before, after: channels in and out.
        features: numbers in the conditioning.
        dropout: see DDPMPP.
        attention: whether there is one.
        resample: to another resolution, on both ways; None: the same.
    """

    def __init__(
        self, before: int, after: int, features: int, dropout: float, attention: bool,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.before, self.after, self.resample = before, after, resample
        self.norm_in = fine_norm(before)
        self.conv_in = started(nn.Conv2d(before, after, 3, padding=1))
        self.shift = started(nn.Linear(features, after))
        self.norm_out = fine_norm(after)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = started(nn.Conv2d(after, after, 3, padding=1), NEARLY_ZERO)
        same = before == after and resample is None
        self.skip = nn.Identity() if same else started(nn.Conv2d(before, after, 1))
        self.attention = OneHead(after) if attention else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, before, H, W) and (B, features) to (B, after, H, W), or H and W resampled."""
        h = F.silu(self.norm_in(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv_in(h) + self.shift(condition)[:, :, None, None]
        h = self.conv_out(self.dropout(F.silu(self.norm_out(h))))
        return self.attention((self.skip(x) + h) * math.sqrt(0.5))


class Pyramid(nn.Conv2d):
    """A convolution and then NCSN++'s filter to half the resolution, zeros for both around the picture at once."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1 + len(BINOMIAL) // 2 - 1)
        started(self)

    def forward(self, input: Tensor) -> Tensor:
        return halve(super().forward(input), BINOMIAL, padding=0)

"""The parts of the UNet: residual block, self-attention, halving and doubling of the resolution."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention

__all__ = ["Block", "Down", "SelfAttention", "Up", "norm", "zeroed"]

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def norm(channels: int, affine: bool = True) -> nn.GroupNorm:
    """GroupNorm of up to 32 groups with at least 4 channels in each."""
    groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels, affine=affine)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights and bias of zero: what it feeds starts as if it were not there."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class SelfAttention(nn.Module):
    """x + attention among all pixels, in heads of `head_width` channels (one head where there are fewer)."""

    def __init__(self, channels: int, head_width: int) -> None:
        super().__init__()
        if channels > head_width and channels % head_width:
            raise ValueError(
                f"head_width is {head_width}, and attention has {channels} channels; allowed: a divisor of {channels}"
            )
        self.heads = max(1, channels // head_width)
        self.norm = norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.attend = Attention()
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.norm(x)), "b (s h d) y x -> s b h (y x) d", s=3, h=self.heads).unbind()
        out = rearrange(self.attend(q, k, v), "b h (y x) d -> b (h d) y x", y=x.shape[2])
        return x + self.out(out)


class Block(nn.Module):
    """Residual block: two 3x3 convolutions, the second after a norm that the conditioning scales and shifts.

    Args:
        before: channels in.
        after: channels out.
        dropout: probability of zeroing a number before the last convolution; it draws from torch's global generator.
        head_width: channels per attention head; None: no attention.

    Source: Dhariwal & Nichol 2021 (2105.05233), section 3.1 (adaptive group normalisation).
    """

    def __init__(self, before: int, after: int, dropout: float, head_width: int | None) -> None:
        super().__init__()
        self.after = after
        self.norm_in = norm(before)
        self.conv_in = nn.Conv2d(before, after, 3, padding=1)
        self.norm_out = norm(after, affine=False)  # its scale and shift are the conditioning's
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(after, after, 3, padding=1))
        self.skip = nn.Identity() if before == after else nn.Conv2d(before, after, 1)
        self.attention = nn.Identity() if head_width is None else SelfAttention(after, head_width)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H, W); scale (about 1) and shift are (B, after, 1, 1)."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = F.silu(torch.addcmul(shift, self.norm_out(h), scale))
        return self.attention(self.skip(x) + self.conv_out(self.dropout(h)))


class Down(nn.Conv2d):
    """Half the resolution by a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Up(nn.Module):
    """Twice the resolution: every pixel repeated, then a convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

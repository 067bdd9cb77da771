"""The parts of the UNet: residual block, self-attention, halving and doubling of the resolution, on one to three axes."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention

__all__ = ["Block", "SelfAttention", "Up", "conv", "halving", "norm", "zeroed"]

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = TypeVar("Layer", nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, Conv)


def conv(dims: int, before: int, after: int, kernel: int = 3, stride: int = 1) -> Conv:
    """A convolution over `dims` axes that keeps the resolution, but for its stride."""
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    return kind(before, after, kernel, stride=stride, padding=kernel // 2)


def norm(channels: int, affine: bool = True, groups: int | None = None) -> nn.GroupNorm:
    """GroupNorm of as many groups as told; None: up to 32, with at least 4 channels in each.

    Raises:
        ValueError: for groups that do not divide the channels.
    """
    if groups is None:
        groups = next(g for g in range(min(32, max(1, channels // 4)), 0, -1) if channels % g == 0)
    elif channels % groups:
        raise ValueError(
            f"groups is {groups}, and a norm has {channels} channels; allowed: a divisor of the channels of all norms, such as one of width"
        )
    return nn.GroupNorm(groups, channels, affine=affine)


def zeroed(layer: Layer) -> Layer:
    """The layer with weights and bias of zero: what it feeds starts as if it were not there."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class SelfAttention(nn.Module):
    """x + attention among all positions, in heads of `head_width` channels (one head where there are fewer)."""

    def __init__(self, channels: int, head_width: int, groups: int | None = None, dims: int = 2) -> None:
        super().__init__()
        if channels > head_width and channels % head_width:
            raise ValueError(
                f"head_width is {head_width}, and attention has {channels} channels; allowed: a divisor of {channels}"
            )
        self.heads = max(1, channels // head_width)
        self.norm = norm(channels, groups=groups)
        self.qkv = conv(dims, channels, 3 * channels, 1)
        self.attend = Attention()
        self.out = zeroed(conv(dims, channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        # numbers of a position side by side: fused kernels take nothing else on a CPU, and what is taken instead keeps all scores
        qkv = self.qkv(self.norm(x)).flatten(2).transpose(1, 2).contiguous()
        q, k, v = rearrange(qkv, "b n (s h d) -> s b h n d", s=3, h=self.heads).unbind()
        out = rearrange(self.attend(q, k, v), "b h n d -> b (h d) n").view(x.shape)
        return x + self.out(out)


class Block(nn.Module):
    """Residual block: two convolutions of 3 positions per axis, the second after a norm that the conditioning scales and shifts.

    Args:
        before: channels in.
        after: channels out.
        dropout: probability of zeroing a number before the last convolution; it draws from torch's global generator.
        head_width: channels per attention head; None: no attention.
        groups: of every norm, see `norm`.
        dims: axes of the data.

    Source: Dhariwal & Nichol 2021 (2105.05233), section 3.1 (adaptive group normalisation).
    """

    def __init__(
        self,
        before: int,
        after: int,
        dropout: float,
        head_width: int | None,
        groups: int | None = None,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.after = after
        self.norm_in = norm(before, groups=groups)
        self.conv_in = conv(dims, before, after)
        self.norm_out = norm(after, affine=False, groups=groups)  # its scale and shift are the conditioning's
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(conv(dims, after, after))
        self.skip = nn.Identity() if before == after else conv(dims, before, after, 1)
        self.attention = nn.Identity() if head_width is None else SelfAttention(after, head_width, groups, dims)

    def forward(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """(B, before, ...) to (B, after, ...); scale (about 1) and shift are (B, after, 1, ...)."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = F.silu(torch.addcmul(shift, self.norm_out(h), scale))
        return self.attention(self.skip(x) + self.conv_out(self.dropout(h)))


def halving(channels: int, dims: int = 2) -> Conv:
    """Half the resolution by a convolution of stride 2."""
    return conv(dims, channels, channels, stride=2)


class Up(nn.Module):
    """Twice the resolution: every position repeated along all axes, then a convolution."""

    def __init__(self, before: int, after: int, dims: int = 2) -> None:
        super().__init__()
        self.conv = conv(dims, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))

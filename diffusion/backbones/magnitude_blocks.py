"""The residual block of EDM2, and its attention."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .magnitude import MPLayer, mp_silu, mp_sum, normalised

__all__ = ["CosineAttention", "MPBlock"]

RESIDUAL = 0.3  # share of a block's branch, and of attention, in their sums
LARGEST = 256.0  # activations are cut to this, for half precision


class CosineAttention(nn.Module):
    """Attention among all pixels on queries, keys and values of magnitude 1, summed with x."""

    def __init__(self, channels: int, head_width: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.qkv = MPLayer(channels, 3 * channels, 1)
        self.attend = Attention()
        self.out = MPLayer(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        qkv = rearrange(self.qkv(x), "b (s h d) y x -> s b h (y x) d", s=3, h=self.heads)
        q, k, v = normalised(qkv, (4,)).unbind()
        out = rearrange(self.attend(q, k, v), "b h (y x) d -> b (h d) y x", y=x.shape[2])
        return mp_sum(x, self.out(out), RESIDUAL)


class MPBlock(nn.Module):
    """A residual block; on the way down it begins with x of magnitude 1 in every pixel.

    Args:
        before, after: channels in and out.
        features: numbers in the conditioning.
        down: whether it is one of the way down.
        dropout: see EDM2.
        head_width: channels per attention head; None: no attention.
        resample: to another resolution; None: the same.
    """

    def __init__(
        self, before: int, after: int, features: int, down: bool, dropout: float, head_width: int | None,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.after, self.down, self.resample = after, down, resample
        self.gain = nn.Parameter(torch.zeros(1))  # of the conditioning
        self.conv_in = MPLayer(after if down else before, after, 3)
        self.scale = MPLayer(features, after)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = MPLayer(after, after, 3)
        self.skip = nn.Identity() if before == after else MPLayer(before, after, 1)
        self.attention = nn.Identity() if head_width is None else CosineAttention(after, head_width)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, before, H, W) and (B, features) to (B, after, H, W), or H and W resampled."""
        if self.resample is not None:
            x = self.resample(x)
        if self.down:
            x = normalised(self.skip(x), (1,))
        h = self.conv_in(mp_silu(x))
        h = mp_silu(h * (1 + self.scale(condition, self.gain))[:, :, None, None])
        h = self.conv_out(self.dropout(h))
        h = mp_sum(x if self.down else self.skip(x), h, RESIDUAL)
        return self.attention(h).clamp(-LARGEST, LARGEST)

"""The residual block of ADM, which may halve or double the resolution."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import SelfAttention, conv, norm, zeroed

__all__ = ["ADMBlock", "resampled"]


def resampled(x: Tensor, resample: Literal["down", "up"] | None) -> Tensor:
    """Half the resolution by means of neighbours, or twice by repeating them; None: x."""
    if resample == "down":
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
        return pool(x, 2)
    return x if resample is None else F.interpolate(x, scale_factor=2.0, mode="nearest")


class ADMBlock(nn.Module):
    """Residual block: norm, convolution, norm, convolution, with time and class between; then attention.

    Args:
        before: channels in.
        after: channels out.
        dropout: probability of zeroing a number before the last convolution; it draws from torch's global generator.
        head_width: channels per attention head; None: no attention.
        resample: what becomes of the resolution, on both ways, before the first convolution.
        groups: of every norm.
        dims: axes of the data.

    Source: Dhariwal & Nichol 2021 (2105.05233), section 3; Nichol & Dhariwal 2021 (2102.09672), section 3 and appendix A.
    """

    def __init__(
        self,
        before: int,
        after: int,
        dropout: float = 0.0,
        head_width: int | None = None,
        resample: Literal["down", "up"] | None = None,
        groups: int | None = 32,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.after = after
        self.resample: Literal["down", "up"] | None = resample
        self.norm_in = norm(before, groups=groups)
        self.conv_in = conv(dims, before, after)
        self.norm_out = norm(after, groups=groups)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(conv(dims, after, after))
        self.skip = nn.Identity() if before == after else conv(dims, before, after, 1)
        self.attention = nn.Identity() if head_width is None else SelfAttention(after, head_width, groups, dims)

    def forward(self, x: Tensor, scale: Tensor | None, shift: Tensor) -> Tensor:
        """(B, before, ...) to (B, after, ...).

        Args:
            x: (B, before, ...).
            scale: (B, after, 1, ...), times the second norm's output, about 1; None: shift is added before that norm.
            shift: (B, after, 1, ...).
        """
        h = self.conv_in(resampled(F.silu(self.norm_in(x)), self.resample))
        h = self.norm_out(h + shift) if scale is None else torch.addcmul(shift, self.norm_out(h), scale)
        h = self.conv_out(self.dropout(F.silu(h)))
        return self.attention(self.skip(resampled(x, self.resample)) + h)

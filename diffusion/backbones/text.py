"""What a network is told by text: cross-attention to its tokens, and their mean as a vector beside the time's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .attention import Attention
from .blocks import zeroed
from .head_norm import head_norm

__all__ = ["CrossAttention", "PooledText", "TextTokens", "checked_text"]


def checked_text(text: Tensor | None, mask: Tensor | None, batch: int, width: int) -> tuple[Tensor, Tensor] | None:
    """Text and its mask as a network built with `text_width` wants them; None for one that is told no text.

    Args:
        text: (batch, M, width), any floating dtype; None: none given.
        mask: bool (batch, M), true for real tokens; None: all are real. A row without a true one is no text: the null.
        batch: images.
        width: numbers per token that the network was built for; 0: it takes no text.

    Raises:
        ValueError: for other shapes or dtypes, text that is missing, and text that the network does not take.
    """
    if not width:
        if text is not None or mask is not None:
            raise ValueError("text was given, but text_width is 0; pass text=None or build with text_width > 0")
        return None
    if text is None:
        raise ValueError(
            f"text is None, and text_width is {width}; allowed: ({batch}, M, {width}); for no text give zeros and a text_mask of false"
        )
    if (
        text.ndim != 3
        or text.shape[0] != batch
        or text.shape[1] < 1
        or text.shape[2] != width
        or not text.is_floating_point()
    ):
        raise ValueError(
            f"text is {text.dtype} of shape {tuple(text.shape)}; allowed: floating point of shape ({batch}, M, {width}), M tokens for"
            " each image"
        )
    if mask is None:
        mask = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
    if mask.shape != text.shape[:2] or mask.dtype != torch.bool:
        raise ValueError(
            f"text_mask is {mask.dtype} of shape {tuple(mask.shape)}; allowed: torch.bool of shape {tuple(text.shape[:2])}, true for"
            " real tokens"
        )
    return text, mask


class TextTokens(nn.Module):
    """An encoder's tokens made as wide as the network, once for all of its blocks.

    Source: Chen et al. 2023 (2310.00426), PixArt-alpha's caption projection.
    """

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.proj_in = nn.Linear(text_width, width)
        self.proj_out = nn.Linear(width, width)

    def forward(self, text: Tensor) -> Tensor:
        """(B, M, text_width) to (B, M, width)."""
        text = text.to(self.proj_in.weight.dtype)
        return self.proj_out(F.gelu(self.proj_in(text), approximate="tanh"))


class PooledText(nn.Module):
    """The mean of the real tokens, projected: a vector to add to the conditioning. No text is the bias alone."""

    def __init__(self, text_width: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(text_width, width)

    def forward(self, text: Tensor, mask: Tensor) -> Tensor:
        """text (B, M, text_width) and bool mask (B, M) to (B, width)."""
        real = mask[:, :, None]
        # where, not times: what is in padding may be infinite
        total = torch.where(real, text, 0.0).float().sum(1)
        mean = total / real.sum(1).clamp(min=1)
        return self.proj(mean.to(self.proj.weight.dtype))


class CrossAttention(nn.Module):
    """Attention of an image's tokens to those of a text; its output starts at zero, and is zero for no text.

    Args:
        width: numbers per token of the image, a multiple of heads.
        text_width: numbers per token of the text.
        heads: attention heads.
        qk_norm: RMS norm of queries and keys in each head.

    Source: Chen et al. 2023 (2310.00426), section 2.3.
    """

    def __init__(self, width: int, text_width: int, heads: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(text_width, 2 * width)
        self.norm_q = head_norm(width // heads, qk_norm)
        self.norm_k = head_norm(width // heads, qk_norm)
        self.attend = Attention()
        self.out = zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """What to add to x.

        Args:
            x: (B, N, width).
            text: (B, M, text_width), finite.
            mask: bool (B, M), true for real tokens.

        Returns:
            (B, N, width).
        """
        some = mask.any(1)[:, None]
        # a softmax over nothing is no number: without text a query looks everywhere, and what it sees is dropped
        seen = (mask | ~some)[:, None, None]
        q = rearrange(self.q(x), "b n (h d) -> b h n d", h=self.heads)
        k, v = rearrange(self.kv(text.to(self.kv.weight.dtype)), "b m (s h d) -> s b h m d", s=2, h=self.heads).unbind()
        out = self.attend(self.norm_q(q), self.norm_k(k), v, seen)
        return self.out(rearrange(out, "b h n d -> b n (h d)")) * some[:, :, None]

"""A block of the UNet that listens to a text."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from .blocks import Block, norm
from .text import CrossAttention

__all__ = ["TextBlock"]


class TextBlock(Block):
    """A residual block with self-attention, and then attention to the tokens of a text.

    Args:
        before: channels in.
        after: channels out.
        dropout: see `Block`.
        head_width: channels per attention head.
        text_width: numbers per token of the text.
        groups: of every norm, see `norm`.
        dims: axes of the data.

    Source: Rombach et al. 2022 (2112.10752), section 3.3.
    """

    def __init__(
        self, before: int, after: int, dropout: float, head_width: int, text_width: int, groups: int | None = None, dims: int = 2
    ) -> None:  # fmt: skip
        super().__init__(before, after, dropout, head_width, groups, dims)
        self.norm_text: nn.GroupNorm = norm(after, groups=groups)
        self.listen = CrossAttention(after, text_width, max(1, after // head_width))

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] - a block that is told more
        self, x: Tensor, scale: Tensor, shift: Tensor, text: Tensor, mask: Tensor
    ) -> Tensor:
        """As `Block`'s, with text (B, M, text_width) and bool mask (B, M), true for real tokens."""
        h = super().forward(x, scale, shift)
        tokens = rearrange(self.norm_text(h).flatten(2), "b c n -> b n c")
        heard = self.listen(tokens, text, mask)
        return h + rearrange(heard, "b n c -> b c n").reshape(h.shape)

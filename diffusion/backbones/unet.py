"""The UNet of DDPM and ADM, with one skip per block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Block, Up, conv, halving, norm, zeroed
from .checks import check_counts, check_dropout, check_input, check_levels, check_out
from .embedding import Conditioning, told_layer, with_told
from .text import PooledText, checked_text
from .text_block import TextBlock

__all__ = ["UNet"]


class UNet(nn.Module):
    """Residual blocks at falling, then rising resolution, each on the way down handing its output to one on the way up.

    Time and class scale and shift a norm in every block; one linear layer computes that for all blocks at once. The way
    up has as many blocks as the way down; ADM has one more per level, for skips from the stem and the strided
    convolutions. Without them a step takes a quarter less time, and the samples of digits were no worse. The output at
    initialisation is zero.

    Args:
        channels: of the data.
        size: expected length of every axis, pixels; a call may use any that `2 ** (len(multipliers) - 1)` divides.
        num_classes: classes; 0: a network without labels.
        width: channels at full resolution, times multipliers[0].
        multipliers: channels at each level, in units of width; every level halves the resolution of the one before.
        blocks: residual blocks per level, on the way down and again on the way up.
        attention: resolutions, in pixels at `size`, whose blocks attend; the middle counts as the last level.
        head_width: channels per attention head.
        dropout: probability in [0, 1), in training mode; it draws from torch's global generator.
        time_scale: highest frequency of the time embedding, see `Conditioning`.
        out_channels: of the output, twice `channels` to learn a variance, too; None: as many as channels.
        augment_features: numbers per sample that an augmentation tells, as many as its `told`; 0: none.
        groups: of every GroupNorm, a divisor of all channels; None: up to 32, by the channels.
        time_features: numbers in the time's sinusoid, even; None: 4 * width.
        text_width: numbers per token of a text, which the blocks that attend listen to; 0: no text. Without such blocks the network is told
            the mean of the tokens only.
        dims: axes of the data: 1 for sequences (B, C, L), 2 for images (B, C, H, W), 3 for volumes (B, C, D, H, W).

    Raises:
        ValueError: for arguments outside these ranges; in a call, for inputs of wrong shape or dtype.

    Source: Ho et al. 2020 (2006.11239), appendix B; Dhariwal & Nichol 2021 (2105.05233), section 3.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int = 32,
        num_classes: int = 0,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (16,),
        head_width: int = 32,
        dropout: float = 0.0,
        time_scale: float = 1.0,
        out_channels: int | None = None,
        augment_features: int = 0,
        groups: int | None = None,
        time_features: int | None = None,
        dims: Literal[1, 2, 3] = 2,
        text_width: int = 0,
    ) -> None:
        super().__init__()
        if text_width < 0:
            raise ValueError(f"text_width is {text_width}; allowed: >= 0 (0: a network without texts)")
        counts = {"channels": channels, "size": size, "width": width, "blocks": blocks, "head_width": head_width}
        check_counts(counts | {"groups": groups})
        check_levels(size, multipliers, attention, dims)
        check_dropout(dropout)
        self.config: dict[str, object] = {
            "channels": channels,
            "size": size,
            "num_classes": num_classes,
            "width": width,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "attention": list(attention),
            "head_width": head_width,
            "dropout": dropout,
            "time_scale": time_scale,
            "out_channels": out_channels,
        }
        later = {"augment_features": (augment_features, 0), "groups": (groups, None)}
        later |= {"time_features": (time_features, None), "dims": (dims, 2), "text_width": (text_width, 0)}
        # not said where they are the default, so that a run from before they were there is the same run
        self.config |= {key: value for key, (value, default) in later.items() if value != default}
        out = check_out(channels, out_channels)
        self.channels = channels
        self.size = size
        self.num_classes = num_classes
        self.augment_features = augment_features
        self.dims = dims
        self.text_width = text_width
        self.divisor = 2 ** (len(multipliers) - 1)

        widths = [width * m for m in multipliers]
        heads = [head_width if size >> level in attention else None for level in range(len(widths))]

        def block(before: int, after: int, head: int | None) -> Block:
            if head is None or not text_width:
                return Block(before, after, dropout, head, groups, dims)
            return TextBlock(before, after, dropout, head, text_width, groups, dims)

        now = widths[0]
        skips: list[int] = []  # channels of what the way up will concatenate
        self.stem = conv(dims, channels, now)
        self.down = nn.ModuleList()
        for level, after in enumerate(widths):
            if level > 0:
                self.down.append(halving(now, dims))
            for _ in range(blocks):
                self.down.append(block(now, after, heads[level]))
                now = after
                skips.append(now)
        self.middle = nn.ModuleList([block(now, now, head) for head in (heads[-1], None)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(blocks):
                self.up.append(block(now + skips.pop(), widths[level], heads[level]))
                now = widths[level]
            if level > 0:
                # narrowing here rather than in the next block keeps the widest tensors off the full resolution
                self.up.append(Up(now, widths[level - 1], dims))
                now = widths[level - 1]
        self.norm = norm(now, groups=groups)
        self.head = zeroed(conv(dims, now, out))

        self.widths = [block.after for block in (*self.down, *self.middle, *self.up) if isinstance(block, Block)]
        features = 4 * width if time_features is None else time_features
        self.condition = Conditioning(num_classes, features, 4 * width, time_scale)
        self.modulation = nn.Linear(4 * width, 2 * sum(self.widths))
        self.told = told_layer(augment_features, 4 * width)  # last, so that the others' weights are those without it
        self.text_pool = PooledText(text_width, 4 * width) if text_width else None

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        labels: Tensor | None = None,
        *,
        augment: Tensor | None = None,
        text: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """The network's output for noisy samples, each at its own time and of its own class.

        Args:
            x: (B, channels, ...), with `dims` axes after the channels.
            time: float32 (B,).
            labels: int64 (B,) in 0..num_classes, where num_classes is the null class; None: null for all.
            augment: (B, augment_features), what was done to the samples; None: zeros, nothing.
            text: (B, M, text_width), an encoder's tokens; None: none, where text_width is 0.
            text_mask: bool (B, M), true for real tokens; a row without one is no text. None: all are real.

        Returns:
            (B, out_channels, ...) in the dtype of x.
        """
        check_input(x, self.channels, self.divisor, self.dims)
        vector = with_told(self.condition(len(x), time, labels), self.told, augment)
        words = checked_text(text, text_mask, len(x), self.text_width) or ()
        if words and self.text_pool is not None:
            vector = vector + self.text_pool(*words)
        modulation = self.modulation(F.silu(vector)).unflatten(1, (-1, *[1] * self.dims))
        scale, shift = modulation.chunk(2, dim=1)
        steps = zip((1.0 + scale).split(self.widths, dim=1), shift.split(self.widths, dim=1), strict=True)

        def through(block: nn.Module, h: Tensor) -> Tensor:
            return block(h, *next(steps), *(words if isinstance(block, TextBlock) else ()))

        h = self.stem(x)
        skips: list[Tensor] = []
        for layer in self.down:
            if isinstance(layer, Block):
                h = through(layer, h)
                skips.append(h)
            else:
                h = layer(h)
        for block in self.middle:
            h = through(block, h)
        for layer in self.up:
            if isinstance(layer, Block):
                h = through(layer, torch.cat([h, skips.pop()], dim=1))
            else:
                h = layer(h)
        return self.head(F.silu(self.norm(h))).to(x.dtype)

"""The UNet of improved DDPM and ADM as it was published, with a skip from every layer of the way down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adm_blocks import ADMBlock
from .blocks import Up, conv, halving, norm, zeroed
from .checks import check_counts, check_dropout, check_input, check_levels, check_out
from .embedding import Conditioning, told_layer, with_told

__all__ = ["ADM"]


class ADM(nn.Module):
    """The published UNet, weight for weight: what `UNet` leaves out (skips from the stem and from halvings, affine norms) is here.

    What was published, beside size, num_classes (1000, null_class False) and out_channels 6:

    * ADM ImageNet-64: width 192, multipliers 1, 2, 3, 4, blocks 3, attention 32, 16, 8, dropout 0.1;
    * ADM ImageNet-128: width 256, multipliers 1, 1, 2, 3, 4, blocks 2, attention 32, 16, 8, head_width None and heads 4;
    * ADM ImageNet-256: width 256, multipliers 1, 1, 2, 2, 4, 4, blocks 2, attention 32, 16, 8;
    * ADM ImageNet-512: width 256, multipliers 0.5, 1, 1, 2, 2, 4, 4, blocks 2, attention 32, 16, 8;
    * improved DDPM ImageNet-64: width 128, multipliers 1, 2, 3, 4, blocks 3, attention 16, 8, head_width None, heads 4, updown conv,
      and CIFAR-10: multipliers 1, 2, 2, 2, dropout 0.3, otherwise the same;
    * DDPM's shape: scale_shift False, updown conv, heads 1.

    Args:
        channels: of the data.
        size: expected length of every axis, pixels; a call may use any that `2 ** (len(multipliers) - 1)` divides.
        num_classes: classes; 0: a network without labels.
        null_class: whether there is a row for no class, num_classes, as training with label dropout needs; the published weights have
            none, and without it every sample needs a label.
        width: channels at full resolution are width * multipliers[0]; the time's vector has 4 * width numbers, its sinusoid width.
        multipliers: channels at each level, in units of width; every level halves the resolution of the one before.
        blocks: residual blocks per level on the way down, and one more on the way up.
        attention: resolutions, in pixels at `size`, whose blocks attend; the middle always does.
        head_width: channels per attention head; None: as `heads` says.
        heads: heads of every attention, in place of head_width.
        updown: "block": a residual block halves or doubles the resolution; "conv": a convolution.
        scale_shift: whether time and class scale and shift the second norm of a block, or are added before it.
        dropout: probability in [0, 1), in training mode; it draws from torch's global generator.
        time_scale: highest frequency of the time embedding; 1 for the index of a step, 0 to 999.
        out_channels: of the output, twice `channels` to learn a variance, too; None: as many as channels.
        augment_features: numbers per sample that an augmentation tells, as many as its `told`; 0: none.
        groups: of every GroupNorm, a divisor of all channels; None: up to 32, by the channels.
        dims: axes of the data: 1 for sequences, 2 for images, 3 for volumes.

    Raises:
        ValueError: for arguments outside these ranges; in a call, for inputs of wrong shape or dtype, and without labels where there is no
            null class.

    Source: Nichol & Dhariwal 2021 (2102.09672); Dhariwal & Nichol 2021 (2105.05233), section 3 and appendix I.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int = 64,
        num_classes: int = 0,
        null_class: bool = True,
        width: int = 192,
        multipliers: Sequence[float] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Sequence[int] = (32, 16, 8),
        head_width: int | None = 64,
        heads: int | None = None,
        updown: Literal["block", "conv"] = "block",
        scale_shift: bool = True,
        dropout: float = 0.0,
        time_scale: float = 1.0,
        out_channels: int | None = None,
        augment_features: int = 0,
        groups: int | None = 32,
        dims: Literal[1, 2, 3] = 2,
    ) -> None:
        super().__init__()
        self.config: dict[str, object] = {
            "channels": channels,
            "size": size,
            "num_classes": num_classes,
            "null_class": null_class,
            "width": width,
            "multipliers": list(multipliers),
            "blocks": blocks,
            "attention": list(attention),
            "head_width": head_width,
            "heads": heads,
            "updown": updown,
            "scale_shift": scale_shift,
            "dropout": dropout,
            "time_scale": time_scale,
            "out_channels": out_channels,
            "augment_features": augment_features,
            "groups": groups,
            "dims": dims,
        }
        counts = {"channels": channels, "size": size, "width": width, "blocks": blocks, "groups": groups}
        check_counts(counts | {"head_width": head_width, "heads": heads})
        check_levels(size, multipliers, attention, dims, least=1 / width)
        check_dropout(dropout)
        if updown not in ("block", "conv"):
            raise ValueError(f"updown is {updown!r}; allowed: 'block', 'conv'")
        out = check_out(channels, out_channels)
        self.channels, self.size, self.dims = channels, size, dims
        self.num_classes, self.null_class = num_classes, null_class
        self.augment_features, self.scale_shift = augment_features, scale_shift
        self.divisor = 2 ** (len(multipliers) - 1)

        def per_head(channels: int) -> int:
            return _head_width(channels, head_width, heads)

        def block(before: int, after: int, attends: bool = False) -> ADMBlock:
            return ADMBlock(before, after, dropout, per_head(after) if attends else None, None, groups, dims)

        def half(now: int) -> nn.Module:
            return halving(now, dims) if updown == "conv" else ADMBlock(now, now, dropout, None, "down", groups, dims)

        def double(now: int) -> nn.Module:
            return Up(now, now, dims) if updown == "conv" else ADMBlock(now, now, dropout, None, "up", groups, dims)

        widths = [int(width * m) for m in multipliers]
        attends = [size >> level in attention for level in range(len(widths))]
        now = widths[0]
        skips = [now]  # channels of what the way up will concatenate
        self.stem = conv(dims, channels, now)
        self.down = nn.ModuleList()
        for level, after in enumerate(widths):
            if level > 0:
                self.down.append(half(now))
                skips.append(now)
            for _ in range(blocks):
                self.down.append(block(now, after, attends[level]))
                now = after
                skips.append(now)
        self.middle = nn.ModuleList([block(now, now, True), block(now, now)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                self.up.append(block(now + skips.pop(), widths[level], attends[level]))
                now = widths[level]
            if level > 0:
                self.up.append(double(now))
        self.norm = norm(now, groups=groups)
        self.head = zeroed(conv(dims, now, out))

        modulated = [b for b in (*self.down, *self.middle, *self.up) if isinstance(b, ADMBlock)]
        self.widths = [b.after for b in modulated]
        self.condition = Conditioning(num_classes, width, 4 * width, time_scale, null_class)
        self.modulation = nn.Linear(4 * width, (2 if scale_shift else 1) * sum(self.widths))
        self.told = told_layer(augment_features, 4 * width)

    def forward(
        self, x: Tensor, time: Tensor, labels: Tensor | None = None, *, augment: Tensor | None = None
    ) -> Tensor:
        """The network's output for noisy samples, each at its own time and of its own class.

        Args:
            x: (B, channels, ...), with `dims` axes after the channels.
            time: float32 (B,).
            labels: int64 (B,) in 0..num_classes, where num_classes is the null class, if there is one; None: null for all.
            augment: (B, augment_features), what was done to the samples; None: zeros, nothing.

        Returns:
            (B, out_channels, ...) in the dtype of x.
        """
        check_input(x, self.channels, self.divisor, self.dims)
        vector = with_told(self.condition(len(x), time, labels), self.told, augment)
        modulation = self.modulation(F.silu(vector)).unflatten(1, (-1, *[1] * self.dims))
        if self.scale_shift:
            scale, shift = modulation.chunk(2, dim=1)
            scales = iter((1.0 + scale).split(self.widths, dim=1))
        else:
            scales, shift = iter([None] * len(self.widths)), modulation
        shifts = iter(shift.split(self.widths, dim=1))

        def run(layer: nn.Module, h: Tensor) -> Tensor:
            return layer(h, next(scales), next(shifts)) if isinstance(layer, ADMBlock) else layer(h)

        h = self.stem(x)
        skips = [h]
        for layer in self.down:
            h = run(layer, h)
            skips.append(h)
        for layer in self.middle:
            h = run(layer, h)
        for layer in self.up:
            doubles = isinstance(layer, Up) or (isinstance(layer, ADMBlock) and layer.resample == "up")
            h = run(layer, h if doubles else torch.cat([h, skips.pop()], dim=1))
        return self.head(F.silu(self.norm(h))).to(x.dtype)


def _head_width(channels: int, head_width: int | None, heads: int | None) -> int:
    """Channels per head of an attention with so many channels."""
    if (head_width is None) == (heads is None):
        raise ValueError(f"head_width is {head_width} and heads is {heads}; allowed: one of them, the other null")
    if heads is None:
        assert head_width is not None
        return head_width
    if channels % heads:
        raise ValueError(f"heads is {heads}, and attention has {channels} channels; allowed: a divisor of {channels}")
    return channels // heads

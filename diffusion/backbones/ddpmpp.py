"""The UNets of score SDEs, DDPM++ and NCSN++, as EDM trains them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_counts, check_dropout, check_input, check_levels, check_out
from .embedding import told_layer, with_told
from .resample import BOX, halve, twice
from .song_blocks import BINOMIAL, NEARLY_ZERO, Pyramid, Residual, Waves, fine_norm, started
from .told import check_time, one_hot

__all__ = ["DDPMPP"]


class DDPMPP(nn.Module):
    """DDPM++ or NCSN++: residual blocks that also change the resolution, all sums divided by sqrt(2), one attention head.

    EDM's networks for CIFAR-10 have width 128, multipliers 2, 2, 2 and augment_features 9 (55.7 M parameters); for FFHQ and AFHQ at 64
    pixels, multipliers 1, 2, 2, 2. The time is meant to be EDM's ln(sigma) / 4 (LogSNRClock(-0.125)).

    Args:
        channels: of the image.
        size: expected height and width, pixels; a call may use any that `2 ** (len(multipliers) - 1)` divides.
        num_classes: classes; 0: a network without labels.
        width: channels of the stem, a multiple of 4, at least 4.
        multipliers: channels at each level, in units of width; every level halves the resolution of the one before.
        blocks: residual blocks per level on the way down; on the way up there is one more.
        attention: resolutions, in pixels at `size`, where all blocks on the way down attend and the last one on the way up; the first
            block of the middle always does.
        dropout: probability in [0, 1), in training mode; it draws from torch's global generator.
        out_channels: of the output; None: as many as channels.
        augment_features: numbers per sample that an augmentation tells, as many as its `told`; 0: none.
        architecture: "ddpmpp", or "ncsnpp": random Fourier features of the time, a smoother filter, and the image itself, filtered
            down, added at every level.

    Raises:
        ValueError: for arguments outside these ranges; in a call, for inputs of wrong shape or dtype.

    Source: Song et al. 2021 (2011.13456), appendix H; Karras et al. 2022 (2206.00364), appendix F.3 and table 7.
    """

    def __init__(
        self,
        channels: int = 3,
        size: int = 32,
        num_classes: int = 0,
        width: int = 128,
        multipliers: Sequence[int] = (2, 2, 2),
        blocks: int = 4,
        attention: Sequence[int] = (16,),
        dropout: float = 0.0,
        out_channels: int | None = None,
        augment_features: int = 0,
        architecture: Literal["ddpmpp", "ncsnpp"] = "ddpmpp",
    ) -> None:
        super().__init__()
        check_counts({"channels": channels, "size": size, "blocks": blocks})
        check_levels(size, multipliers, attention, 2)
        check_dropout(dropout)
        if width < 4 or width % 4:
            raise ValueError(f"width is {width}; allowed: multiples of 4, at least 4")
        if num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}; allowed: >= 0 (0: a network without classes)")
        if architecture not in ("ddpmpp", "ncsnpp"):
            raise ValueError(f"architecture is {architecture!r}; allowed: ddpmpp, ncsnpp")
        self.config: dict[str, object] = {
            "channels": channels, "size": size, "num_classes": num_classes, "width": width, "multipliers": list(multipliers),
            "blocks": blocks, "attention": list(attention), "dropout": dropout, "out_channels": out_channels,
            "augment_features": augment_features, "architecture": architecture,
        }  # fmt: skip
        out = check_out(channels, out_channels)
        self.channels, self.size, self.num_classes, self.augment_features = (
            channels,
            size,
            num_classes,
            augment_features,
        )
        self.divisor = 2 ** (len(multipliers) - 1)
        ncsn = architecture == "ncsnpp"
        taps, features = BINOMIAL if ncsn else BOX, 4 * width

        def residual(before: int, after: int, attends: bool, to: Callable[..., Tensor] | None = None) -> Residual:
            return Residual(before, after, features, dropout, attends, None if to is None else partial(to, taps=taps))

        widths = [width * m for m in multipliers]
        attends = [size >> level in attention for level in range(len(widths))]
        now = width
        skips = [now]  # channels of what the way up will concatenate
        self.stem = started(nn.Conv2d(channels, now, 3, padding=1))
        self.down, self.pyramid = nn.ModuleList(), nn.ModuleList()
        image = channels
        for level, after in enumerate(widths):
            if level > 0:
                self.down.append(residual(now, now, False, halve))
                skips.append(now)
                if ncsn:
                    self.pyramid.append(Pyramid(image, now))
                    image = now
            for _ in range(blocks):
                self.down.append(residual(now, after, attends[level]))
                now = after
                skips.append(now)
        self.middle = nn.ModuleList([residual(now, now, True), residual(now, now, False)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            if level < len(widths) - 1:
                self.up.append(residual(now, now, False, twice))
            for left in reversed(range(blocks + 1)):
                self.up.append(residual(now + skips.pop(), widths[level], left == 0 and attends[level]))
                now = widths[level]
        self.norm = fine_norm(now)
        self.head = started(nn.Conv2d(now, out, 3, padding=1), NEARLY_ZERO)

        told = 2 * width if ncsn else width
        self.waves = Waves(told, fourier=ncsn)
        self.label = started(nn.Linear(num_classes, told)) if num_classes else None
        self.time_in = started(nn.Linear(told, features))
        self.time_out = started(nn.Linear(features, features))
        self.told = told_layer(augment_features, told)  # last, so that the others' weights are those without it
        if self.told is not None:
            started(self.told)

    def forward(
        self, x: Tensor, time: Tensor, labels: Tensor | None = None, *, augment: Tensor | None = None
    ) -> Tensor:
        """The network's output for noisy images, each at its own time and of its own class.

        Args:
            x: (B, channels, H, W).
            time: float32 (B,).
            labels: int64 (B,) in 0..num_classes, where num_classes is the null class; None: null for all.
            augment: (B, augment_features), what was done to the images; None: zeros, nothing.

        Returns:
            (B, out_channels, H, W) in the dtype of x.
        """
        check_input(x, self.channels, self.divisor, 2)
        condition = self._condition(x, time, labels, augment)
        h = self.stem(x)
        skips, image, pyramid = [h], x, iter(self.pyramid)
        for block in self.down:
            assert isinstance(block, Residual)
            h = block(h, condition)
            if block.resample is not None and self.pyramid:
                h = image = (h + next(pyramid)(image)) * math.sqrt(0.5)
            skips.append(h)
        for block in self.middle:
            h = block(h, condition)
        for block in self.up:
            assert isinstance(block, Residual)
            h = block(h if block.resample is not None else torch.cat([h, skips.pop()], dim=1), condition)
        return self.head(F.silu(self.norm(h))).to(x.dtype)

    def _condition(self, x: Tensor, time: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        """What every block is told, (B, 4 width)."""
        check_time(time, len(x))
        vector = self.waves(time).to(self.time_in.weight.dtype)
        classes = one_hot(labels, self.num_classes, len(x), vector)
        if self.label is not None:
            vector = vector + self.label(classes * math.sqrt(self.num_classes))
        vector = with_told(vector, self.told, augment)
        return F.silu(self.time_out(F.silu(self.time_in(vector))))

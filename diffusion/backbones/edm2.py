"""EDM2: the magnitude-preserving UNet."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .checks import check_counts, check_dropout, check_input, check_levels, check_out
from .magnitude import MPLayer, MPWaves, force_weights, mp_cat, mp_silu, mp_sum
from .magnitude_blocks import MPBlock
from .resample import halve, twice
from .told import check_time, one_hot

__all__ = ["EDM2"]

LABEL = 0.5  # share of the class in the conditioning
SKIP = 0.5  # share of what the way down hands over


class EDM2(nn.Module):
    """A UNet that keeps magnitudes: no norms, no biases, weights of fixed norm; its output starts at zero by a learned gain.

    In training mode a call first gives the stored weights magnitude 1 again (see `force_weights`); otherwise it leaves them. An average of
    weights needs nothing of its own, since what a layer computes does not depend on their scale. Published sizes: width XS 128, S 192,
    M 256, L 320, XL 384, XXL 448. The time is meant to be EDM's ln(sigma) / 4 (LogSNRClock(-0.125)), and the input of magnitude 1, which
    row EDM sees to. Weight decay has nothing to act on.

    Args:
        channels: of the image or latent.
        size: expected height and width, pixels; a call may use any that `2 ** (len(multipliers) - 1)` divides.
        num_classes: classes; 0: a network without labels. The null class adds nothing to the time, and has no parameters.
        width: channels at full resolution, in units of which the multipliers are.
        multipliers: channels at each level; every level halves the resolution of the one before.
        blocks: residual blocks per level on the way down; on the way up there is one more.
        attention: resolutions, in pixels at `size`, whose blocks attend; the first block of the middle always does.
        head_width: channels per attention head, a divisor of the channels where there is attention.
        dropout: probability in [0, 1), in training mode; it draws from torch's global generator.
        out_channels: of the output; None: as many as channels.

    Raises:
        ValueError: for arguments outside these ranges; in a call, for inputs of wrong shape or dtype.

    Source: Karras et al. 2024 (2312.02696), configuration G, appendix B.
    """

    def __init__(
        self,
        channels: int = 4,
        size: int = 64,
        num_classes: int = 0,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        blocks: int = 3,
        attention: Sequence[int] = (16, 8),
        head_width: int = 64,
        dropout: float = 0.0,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        check_counts({"channels": channels, "size": size, "width": width, "blocks": blocks, "head_width": head_width})
        check_levels(size, multipliers, attention, 2)
        check_dropout(dropout)
        if num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}; allowed: >= 0 (0: a network without classes)")
        self.config: dict[str, object] = {
            "channels": channels, "size": size, "num_classes": num_classes, "width": width, "multipliers": list(multipliers),
            "blocks": blocks, "attention": list(attention), "head_width": head_width, "dropout": dropout, "out_channels": out_channels,
        }  # fmt: skip
        out = check_out(channels, out_channels)
        self.channels, self.size, self.num_classes = channels, size, num_classes
        self.divisor = 2 ** (len(multipliers) - 1)
        widths = [width * m for m in multipliers]
        heads = [head_width if size >> level in attention else None for level in range(len(widths))]
        for after in [*(w for w, h in zip(widths, heads, strict=True) if h is not None), widths[-1]]:
            if after % head_width:
                raise ValueError(
                    f"head_width is {head_width}, and attention has {after} channels; allowed: a divisor of {after}"
                )
        features = max(widths)

        def block(
            before: int, after: int, down: bool, head: int | None, to: Callable[[Tensor], Tensor] | None = None
        ) -> MPBlock:
            return MPBlock(before, after, features, down, dropout, head, to)

        now = widths[0]
        skips = [now]  # channels of what the way up will concatenate
        # in a ModuleDict, so that each is a unit of its own where weights are sharded, whose part is there to be forced
        self.ends = nn.ModuleDict({"stem": MPLayer(channels + 1, now, 3), "time": MPLayer(now, features)})
        if num_classes:
            self.ends["label"] = MPLayer(num_classes, features)
        self.down = nn.ModuleList()
        for level, after in enumerate(widths):
            if level > 0:
                self.down.append(block(now, now, True, None, halve))
                skips.append(now)
            for _ in range(blocks):
                self.down.append(block(now, after, True, heads[level]))
                now = after
                skips.append(now)
        self.middle = nn.ModuleList([block(now, now, False, head_width), block(now, now, False, None)])
        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            if level < len(widths) - 1:
                self.up.append(block(now, now, False, None, twice))
            for _ in range(blocks + 1):
                self.up.append(block(now + skips.pop(), widths[level], False, heads[level]))
                now = widths[level]
        self.ends["head"] = MPLayer(now, out, 3)
        self.waves, self.gain = MPWaves(widths[0]), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The network's output for noisy images, each at its own time and of its own class.

        Args:
            x: (B, channels, H, W), of magnitude 1.
            time: float32 (B,).
            labels: int64 (B,) in 0..num_classes, where num_classes is the null class; None: null for all.

        Returns:
            (B, out_channels, H, W) in the dtype of x.
        """
        check_input(x, self.channels, self.divisor, 2)
        check_time(time, len(x))
        if self.training:
            # here rather than in the layers, so that a block that is computed again in the backward pass computes the same
            force_weights(self)
        condition = self.ends["time"](self.waves(time).to(self.gain.dtype))
        classes = one_hot(labels, self.num_classes, len(x), condition)
        if self.num_classes:
            condition = mp_sum(condition, self.ends["label"](classes * math.sqrt(self.num_classes)), LABEL)
        condition = mp_silu(condition)
        h = self.ends["stem"](torch.cat([x, torch.ones_like(x[:, :1])], dim=1))  # ones stand in for a bias
        skips = [h]
        for layer in self.down:
            h = layer(h, condition)
            skips.append(h)
        for layer in self.middle:
            h = layer(h, condition)
        for layer in self.up:
            assert isinstance(layer, MPBlock)
            h = layer(h if layer.resample is not None else mp_cat(h, skips.pop(), SKIP), condition)
        return self.ends["head"](h, self.gain).to(x.dtype)

"""Half and twice the resolution of pictures by a short filter along each axis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BOX", "halve", "twice"]

BOX = (1, 1)  # the mean of two by two pixels; the other way, each pixel repeated


def halve(x: Tensor, taps: Sequence[int] = BOX, padding: int | None = None) -> Tensor:
    """Pictures of half the height and width: filtered, then every other pixel.

    Args:
        x: (B, C, H, W).
        taps: the filter along an axis, an even number of weights in any unit.
        padding: zeros around x; None: as many as keep H / 2.

    Source: Zhang 2019 (1904.11486), as in Song et al. 2021 (2011.13456), appendix H.
    """
    if tuple(taps) == BOX and not padding:
        return F.avg_pool2d(x, 2)
    padding = len(taps) // 2 - 1 if padding is None else padding
    return F.conv2d(x, _kernel(x, taps), stride=2, padding=padding, groups=x.shape[1])


def twice(x: Tensor, taps: Sequence[int] = BOX) -> Tensor:
    """Pictures of twice the height and width: zeros between pixels, then filtered so that a flat picture stays what it is inside."""
    if tuple(taps) == BOX:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    return F.conv_transpose2d(x, 4 * _kernel(x, taps), stride=2, padding=len(taps) // 2 - 1, groups=x.shape[1])


def _kernel(x: Tensor, taps: Sequence[int]) -> Tensor:
    """The filter of both axes, of sum 1, once per channel. Made at every call: a buffer would stand in every state dict."""
    # filled there: numbers that come from the host would be waited for, and can't be recorded in a CUDA graph
    line = torch.stack([x.new_full((), tap / sum(taps)) for tap in taps])
    return torch.outer(line, line).expand(x.shape[1], 1, -1, -1)

"""Pictures under affine maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["warp"]

_SAME = 1e-9  # how far from 1 a squared scale may round


def warp(x: Tensor, inverse: Tensor) -> Tensor:
    """Each picture under its own affine map, beyond its edges continued by its mirror image.

    A pixel is the bicubic interpolant at its position, so maps of pixels onto pixels (quarter turns, whole shifts) are exact to rounding.
    Where a map shrinks by s in some direction, it is the mean of points at +-sqrt((1/s^2 - 1) / 12) pixels along it: the variance by
    which a box of 1/s pixels is wider than one pixel. Halving is then the mean of 2x2 blocks, exactly, and nothing else is blurred.

    Args:
        x: (B, C, H, W).
        inverse: float64 (B, 2, 3), on the host: from a place (right, down, 1) in the result to the place in x that it shows, in pixels from
            the centre.

    Returns:
        Like x; computed in float64, a sample at a time, whatever is beside it.
    """
    linear, shift = inverse[:, :, :2], inverse[:, :, 2]
    axes, stretch, _ = torch.linalg.svd(linear)
    square = stretch**2 - 1.0
    away = torch.where(square > _SAME, square / 12.0, torch.zeros_like(square)).sqrt()[:, None] * axes  # (B, 2, axis)
    blurred = (away != 0).flatten(1).any(1)
    out = torch.empty_like(x)
    for pick, signs in ((~blurred, [(0, 0)]), (blurred, [(1, 1), (-1, -1), (1, -1), (-1, 1)])):
        rows = pick.nonzero()[:, 0]
        if len(rows):
            here = rows.to(x.device)
            source = x[here].double()
            seen = [
                _at(source, linear[rows], shift[rows] + away[rows] @ torch.tensor(sign, dtype=torch.float64))
                for sign in signs
            ]
            out[here] = torch.stack(seen).mean(0).to(x.dtype)
    return out


def _at(x: Tensor, linear: Tensor, shift: Tensor) -> Tensor:
    """The interpolant at linear @ (right, down) + shift of every pixel, float64."""
    height, width = x.shape[2:]
    down, right = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in (height, width))
    place = torch.stack([right.expand(height, width), down[:, None].expand(height, width)], 2)
    found = (place[None, :, :, None, :] * linear[:, None, None]).sum(4) + shift[:, None, None]
    grid = found * (2.0 / torch.tensor([width, height], dtype=torch.float64))
    return F.grid_sample(x, grid.to(x.device), "bicubic", "reflection", align_corners=False)

"""Where a token is: codes that are added to it, and angles by which queries and keys are turned."""

from __future__ import annotations

import torch
from torch import Tensor

from .embedding import LOWEST, sinusoid

__all__ = ["positions", "rotate", "rotations"]


def positions(grid: int, width: int) -> Tensor:
    """Fixed float32 codes (grid^2, width) of a square grid, row by row: half of each for the column, half for the row.

    Source: He et al. 2021 (2111.06377), as used by DiT; the order of the numbers is that of the published weights.
    """
    waves = sinusoid(torch.arange(grid, dtype=torch.float32), width // 2)
    cos, sin = waves.chunk(2, dim=1)
    axis = torch.cat([sin, cos], dim=1)
    return torch.cat([axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)], dim=1)


def rotations(grid: int, width: int, more: int = 0, device: torch.device | None = None) -> Tensor:
    """cos and sin of the angles of a square grid's tokens, row by row: the first half of a head's pairs for the column, the other for
    the row.

    Computed at every call: a buffer would be rounded by `net.bfloat16()` and lost on device meta.

    Args:
        grid: tokens along a side.
        width: numbers per head, a multiple of 4.
        more: tokens after those of the grid, which have no place and are not turned.
        device: of the result.

    Returns:
        float32 (2, grid^2 + more, width / 2).

    Source: Su et al. 2021 (2104.09864), eq. 34, on two axes as in LightningDiT (2501.01423).
    """
    pairs = width // 4
    steps = torch.arange(pairs, dtype=torch.float32, device=device)
    axis = torch.arange(grid, dtype=torch.float32, device=device)[:, None] * LOWEST ** (steps / pairs)
    angles = torch.cat([axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)], dim=1)
    angles = torch.cat([angles, angles.new_zeros(more, 2 * pairs)])
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Each pair of neighbouring numbers of x (B, H, N, D) turned by its angle.

    Args:
        x: queries or keys.
        turn: what `rotations` gave, (2, N, D / 2).

    Returns:
        (B, H, N, D), in float32 or x's dtype, whichever is wider.
    """
    cos, sin = turn
    a, b = x.unflatten(3, (-1, 2)).unbind(4)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=4).flatten(3)

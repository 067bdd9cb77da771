"""How far points are from a law of narrow modes: by which of its cells of equal probability they fall into."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .modes import FAR, Modes

__all__ = ["RINGS", "placed"]

# rings around each mode of the plane, of equal probability
RINGS = 4


def placed(x: Tensor, law: Modes) -> dict[str, float]:
    """Measures of points against their law.

    Args:
        x: (N, 2, 1, 1), N >= 1; what is not finite counts as far from all modes.
        law: in the plane.

    Returns:
        distance: total variation between where the points are and where they should be, 0 to 1, over RINGS rings of equal probability
        around each mode and the rest, further than FAR standard deviations from all. Of exact samples about 0.4 sqrt(cells / N), from
        counting alone. off: the share in that rest, hallucinations. modes: total variation over the modes and the rest only. width:
        standard deviation of the others around their mode, in that of the law.

    Raises:
        ValueError: for a law on a line.
    """
    if law.shape[0] != 2:
        raise ValueError(f"law is Modes({law.kind!r}), on a line; allowed: 'grid', 'rotated'")
    finite = torch.isfinite(x).flatten(1).all(1)
    which, away = law.nearest(torch.where(finite[:, None, None, None], x, torch.zeros_like(x)))
    off = (away > FAR) | ~finite
    # in the plane a mode has 1 - exp(-r^2 / 2) of its points within r
    edges = torch.tensor([math.sqrt(-2 * math.log(1 - k / RINGS)) for k in range(1, RINGS)]).double()
    cell = which * RINGS + torch.bucketize(away, edges)
    cells = len(law.centres) * RINGS
    share = torch.bincount(cell[~off], minlength=cells).double() / len(x)
    by_mode = share.view(-1, RINGS).sum(1)
    far = float(off.double().mean())
    near = away[~off]
    return {
        "distance": float((share - 1 / cells).abs().sum() + far) / 2,
        "off": far,
        "modes": float((by_mode - RINGS / cells).abs().sum() + far) / 2,
        "width": float((near.square().mean() / 2).sqrt()) if len(near) else math.nan,
    }

"""The sliced Wasserstein distance: of two clouds along random lines, with control variates that take out what a line's choice adds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...schedules.noise import Stream, check_seeds, gaussian
from .line import pieces
from .vectors import check_vectors, spans

__all__ = ["Sliced", "directions", "sliced_wasserstein"]

# numbers of a cloud on lines at a time: 128 MiB
_NUMBERS = 2**24
# vectors that are float64 at a time
_ROWS = 4096


@dataclass(frozen=True)
class Sliced:
    """A squared sliced Wasserstein distance of order 2.

    Args:
        value: SW2^2, in squared units of the features; around its truth on either side, so with a control variate it may be below 0.
        error: its standard error over the lines that were drawn. The clouds are taken as they are: two clouds of the same law are not at 0.
    """

    value: float
    error: float


def sliced_wasserstein(
    fake: Tensor, real: Tensor, projections: int = 1000, control: Literal["none", "lower", "upper"] = "lower", seed: int = 0
) -> Sliced:  # fmt: skip
    """Mean over random lines of the squared Wasserstein-2 distance between the clouds' shadows on a line.

    A control variate G is known on every line, and so is its mean over all lines; alpha (G - mean G) is subtracted. "lower" is the squared
    distance of the means, a lower bound of the distance of two Gaussians with the clouds' means and variances, and mostly the better one;
    "upper" adds both variances, and helps where clouds of one mean are wider in other directions. alpha, the regression coefficient, is
    taken for each line from all others, so the estimate has no bias at any allowed number of lines (the paper takes one for all, with a
    bias of the order of 1 / projections).

    Args:
        fake, real: (N, d) and (M, d); N may differ from M.
        projections: lines, >= 6.
        control: which control variate.
        seed: of the lines, in [0, 2^63). Line i is the same for any number of lines.

    Raises:
        ValueError: for another shape or range, or numbers that are not finite.

    Source: Nguyen and Ho 2024, arXiv 2305.00402, section 3 (Gaussian approximation; lower and upper bound; optimal coefficient).
    """
    check_vectors({"fake": fake, "real": real}, 1)
    check_seeds([seed])
    # a coefficient of two other lines has no mean, since both variates may be nearly equal, and that of four no variance
    if projections < 6 or control not in ("none", "lower", "upper"):
        raise ValueError(
            f"projections, control are {projections}, {control!r}; allowed: >= 6, and 'none', 'lower' or 'upper'"
        )
    d = fake.shape[1]
    (x, spread_x), (y, spread_y) = _centred(fake), _centred(real)
    mean = x - y
    known = mean.square().sum() / d
    if control == "upper":  # the mean of theta^T Sigma theta over all lines is tr Sigma / d
        known = known + (spread_x + spread_y) / d
    widths, i, j = pieces(len(fake), len(real), fake.device)
    distances, variates = [], []
    for some in spans(projections, max(1, _NUMBERS // (len(fake) + len(real)))):
        lines = directions(seed, some, d).to(fake.device).T
        on_x, on_y = _shadow(fake, x, lines), _shadow(real, y, lines)
        moved = mean @ lines
        variate = moved.square()
        if control == "upper":
            variate = variate + on_x.square().mean(0) + on_y.square().mean(0)
        variates.append(variate - known)
        # both shadows have mean 0: what the means add to the distance is known
        distances.append(widths @ (on_x.sort(0).values[i] - on_y.sort(0).values[j]).square() + moved.square())
    w, g = torch.cat(distances), torch.cat(variates)
    if control != "none":
        w = w - _coefficients(w, g) * g
    return Sliced(float(w.mean()), float(w.std()) / math.sqrt(projections))


def _centred(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and the trace of the covariance about it, divided by N."""
    mean = values.mean(0, dtype=torch.float64)
    return mean, sum(
        ((values[r].double() - mean).square().sum() for r in spans(len(values), _ROWS)), mean.new_zeros(())
    ) / len(values)


def _shadow(values: Tensor, mean: Tensor, lines: Tensor) -> Tensor:
    """Coordinates of the centred cloud on lines, (N, L)."""
    return torch.cat([(values[rows].double() - mean) @ lines for rows in spans(len(values), _ROWS)])


def directions(seed: int, lines: slice, d: int) -> Tensor:
    """Directions of random lines, uniform on the sphere.

    Args:
        seed: in [0, 2^63).
        lines: which, from start to stop.
        d: dimensions.

    Returns:
        float64 (lines, d), of length 1.
    """
    index = torch.arange(lines.start, lines.stop)
    drawn = gaussian(torch.full_like(index, seed), index, 0, 0, (d,), torch.float64, Stream.MEASURE)
    return drawn / drawn.norm(dim=1, keepdim=True)


def _coefficients(w: Tensor, g: Tensor) -> Tensor:
    """For each line the regression coefficient of w on g by all others; 0 where g does not vary."""
    others = len(w) - 1
    mean = (g.sum() - g) / others
    square = g.square().sum() - g.square() - others * mean.square()
    product = (w * g).sum() - w * g - mean * (w.sum() - w)
    # a variate of rounding errors explains nothing
    varies = square > others * (torch.finfo(g.dtype).eps * w.abs().max()) ** 2
    return torch.where(varies, product / square.where(varies, torch.ones_like(square)), 0.0)

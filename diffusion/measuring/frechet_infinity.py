"""The Frechet distance without the bias of finite sets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .frechet import Moments, frechet, moments
from .frechet_error import frechet_with_error

__all__ = ["Extrapolated", "frechet_infinity"]

_LEAST = 2
"""Vectors per feature in the smallest part: with fewer the bias is no straight line in 1/n."""


@dataclass(frozen=True)
class Extrapolated:
    """A Frechet distance, extrapolated to sets without end.

    value: the line at 1/n = 0; may be below zero, by as much as the error. error: standard error of it, and how far a parabola instead of
    the line would move it. low, high: value -+ 2 errors, about 95 % (88 to 100 measured): the interval is about the distance of the
    distributions, or of the fake one to the moments that were given. slope: of the line in 1/n of `fake`: slope/n is the bias at n. counts:
    vectors in each part of `fake`, largest first. distances: mean of the parts at each.
    """

    value: float
    error: float
    low: float
    high: float
    slope: float
    counts: tuple[int, ...]
    distances: tuple[float, ...]


def frechet_infinity(
    fake: Tensor, real: Tensor | Moments, parts: int = 5, groups: int = 20, seed: int = 0
) -> Extrapolated:
    """The Frechet distance at infinitely many vectors: a line in 1/n through the means over 1, 2, ... disjoint parts of the sets.

    Disjoint parts use every vector at every count, so that what the draw of the vectors does to the distance to first order is the same in
    all points and does not tilt the line; it is the jackknife's error of the whole. What tilts the line shows in the residuals, and what
    bends it in the parabola; the three are added as squares. Costs parts (parts + 1) / 2 + groups distances, more where both are sets. The
    bias is a line in 1/n only for many vectors per feature: with 2 d in the smallest of three or five parts the line took 6
    to 11 % too much of it (64 and 192 features of equal variance, exact reference), which is beyond what the residuals alone tell.

    Args:
        fake: (N, d), N >= 2 d parts.
        real: (M, d), M >= 2 d parts: cut into as many parts, so that its bias goes, too; or moments, whose own bias stays.
        parts: into which at most, >= 3.
        groups: of the jackknife, >= 5.
        seed: of who is in which part.

    Raises:
        ValueError: for too few vectors, parts or groups.

    Source: Chong & Forsyth 2020 (1911.07023), section 3.1, with disjoint parts for random ones.
    """
    if parts < 3:
        raise ValueError(f"parts is {parts}; allowed: 3 or more, as a line through two points has no error")
    for name, x in (("fake", fake), ("real", real)):
        if isinstance(x, Tensor) and (x.ndim != 2 or len(x) < _LEAST * x.shape[-1] * parts):
            raise ValueError(
                f"{name} has shape {tuple(x.shape)}; allowed: (N, d) with N >= {_LEAST} d x parts ({parts}), since below "
                f"{_LEAST} d vectors the bias is no line in 1/n; measure more pictures, take fewer parts (>= 3), or features of less width"
            )
    n, points = len(fake), []
    reference = real if isinstance(real, Moments) else None
    for k in range(1, parts + 1):
        pieces = zip(_parts(fake, k, seed), [reference] * k if reference else _parts(real, k, seed + 1), strict=True)
        points.append(sum(frechet(_of(x), _of(y)) for x, y in pieces) / k)
    value, slope, tilt = _line(points)
    # its value is the first point again
    error = math.hypot(tilt, frechet_with_error(fake, real, groups, seed).error)
    counts = tuple(n // k for k in range(1, parts + 1))
    return Extrapolated(value, error, value - 2 * error, value + 2 * error, slope * n, counts, tuple(points))


def _of(x: Tensor | Moments) -> Moments:
    return x if isinstance(x, Moments) else moments(x)


def _parts(x: Tensor | Moments, count: int, seed: int) -> list[Tensor]:
    """A set in random order, cut into disjoint parts."""
    assert isinstance(x, Tensor)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).to(x.device)
    return [x[index] for index in order.tensor_split(count)]


def _line(points: list[float]) -> tuple[float, float, float]:
    """Intercept and slope in k = 1, 2, ... and the intercept's error: by the residuals, and by what a parabola has instead.

    The mean over k parts of n / k vectors has a variance of second order that grows with k, (k / n)^2 / k, so its weight is 1 / k. Where
    the points bend, the line is off by three times what its residuals say.
    """
    k = torch.arange(1, len(points) + 1, dtype=torch.float64)
    y, weight = torch.tensor(points, dtype=torch.float64), 1 / k
    powers = torch.stack([torch.ones_like(k), k, k.square()], 1)
    design = powers[:, :2]
    inverse = torch.linalg.inv(design.T @ (weight[:, None] * design))
    fitted = inverse @ (design.T @ (weight * y))
    scale = (weight * (y - design @ fitted).square()).sum() / (len(points) - 2)
    bent = torch.linalg.solve(powers.T @ (weight[:, None] * powers), powers.T @ (weight * y))
    error = math.hypot(math.sqrt(float(scale * inverse[0, 0])), float(bent[0] - fitted[0]))
    return float(fitted[0]), float(fitted[1]), error

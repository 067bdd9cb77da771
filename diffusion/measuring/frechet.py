"""The Frechet distance between two sets of feature vectors, each taken as a Gaussian."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .half_products import add_gram, lower_outer, lower_product, mirrored

__all__ = ["Moments", "frechet", "moments"]

_LOST = 1e-2
"""How far the logarithm of a determinant may be off before its eigenvalues are taken another way."""


@dataclass(frozen=True, eq=False)
class Moments:
    """The Gaussian that stands for a set of feature vectors.

    Args:
        mean: float64 (d,).
        covariance: float64 (d, d), of the sample: divided by count - 1.
        count: how many vectors it was made of, >= 2; 0 where nobody wrote it down.
        factor: float64 (rank, d) with factor^T factor = covariance, where it is known to be singular: its null space is exact then.
    """

    mean: Tensor
    covariance: Tensor
    count: int
    factor: Tensor | None = None


def moments(features: Tensor) -> Moments:
    """Mean and covariance of feature vectors, in float64 on their device.

    Args:
        features: (N, d), N >= 2. N <= d is allowed; the covariance is singular then, and comes with its factor.

    Raises:
        ValueError: for another shape, or numbers that are not finite.
    """
    if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
        raise ValueError(f"features have shape {tuple(features.shape)}; allowed: (N, d) with N >= 2 and d >= 1")
    values = features.detach().double()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("features hold nan or infinite numbers; leave out pictures that no filter kept (Samples.kept)")
    n, d = values.shape
    mean = values.mean(0)
    centred = values - mean
    covariance = centred.new_zeros(d, d)
    add_gram(centred, covariance)
    factor = None
    if n <= d:
        # Centred rows sum to zero, so one is too many: the reflection that turns (1, ..., 1) into an axis makes it vanish.
        factor = (centred[1:] - centred[0] / (math.sqrt(n) + 1)) / math.sqrt(n - 1)
    return Moments(mean, mirrored(covariance) / (n - 1), n, factor)


def frechet(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + tr A + tr B - 2 tr (A B)^1/2 of two Gaussians with covariances A and B: 0 for equal ones.

    With A = R^T R and B = S^T S the last trace is the sum of the singular values of R S^T: they are real, and none of the usual
    repairs (dropping imaginary parts, adding a small multiple of the identity) is needed. Few vectors make the estimate too
    large, so compare distances at equal counts only, or see `frechet_infinity`.

    Args:
        a, b: of the same d. Singular covariances are allowed.

    Returns:
        The squared distance, >= 0, in squared units of the features.

    Raises:
        ValueError: for moments whose shapes do not fit together.

    Source: Dowson & Landau 1982; Heusel et al. 2017 (1706.08500), eq. 6.
    """
    d = len(a.mean)
    for name, m in (("a", a), ("b", b)):
        factored = m.factor is None or (m.factor.ndim == 2 and m.factor.shape[1] == d)
        if m.mean.shape != (d,) or m.covariance.shape != (d, d) or not factored:
            raise ValueError(
                f"{name} has a mean of shape {tuple(m.mean.shape)} and a covariance of shape "
                f"{tuple(m.covariance.shape)}; allowed: ({d},) and ({d}, {d}), as a.mean, with factors (rank, {d}); "
                "take both from features of the same network"
            )
    a, b = _there(a, a.mean.device), _there(b, a.mean.device)
    shift, traces = (a.mean - b.mean).square().sum(), a.covariance.trace() + b.covariance.trace()
    if torch.equal(a.covariance, b.covariance):
        return float(shift)
    # equal inputs differ from zero by rounding, in either direction
    return max(float(shift + traces - 2 * _root_trace(a, b)), 0.0)


def _there(m: Moments, device: torch.device) -> Moments:
    factor = None if m.factor is None else m.factor.to(device, torch.float64)
    return Moments(m.mean.to(device, torch.float64), m.covariance.to(device, torch.float64), m.count, factor)


def _root_trace(a: Moments, b: Moments) -> Tensor:
    """tr (A B)^1/2."""
    first, second = _lower(a), _lower(b)
    if first is None or second is None:
        return torch.linalg.svdvals(_rows(a, first) @ _rows(b, second).T).sum()
    product = lower_product(first, second)
    # Eigenvalues of P P^T take a fifth of the time of singular values of P, but small ones may drown in rounding, and a root turns
    # an error of 1e-16 into 1e-8. The determinant, known from the triangles, tells whether they did.
    values = torch.linalg.eigvalsh(lower_outer(product))
    known = 2 * (first.diagonal().log().sum() + second.diagonal().log().sum())
    if float(values[0]) > 0 and abs(float(values.log().sum() - known)) < _LOST:
        return values.sqrt().sum()
    return torch.linalg.svdvals(product).sum()


def _negligible(d: int) -> float:
    """The share of a variance that is rounding error."""
    return d * torch.finfo(torch.float64).eps


def _lower(m: Moments) -> Tensor | None:
    """The Cholesky factor, or None for a covariance that is singular to working precision."""
    if m.factor is not None:
        return None
    lower, failed = torch.linalg.cholesky_ex(m.covariance)
    # what is left of each feature's own variance, so that features may have any units
    if bool(failed) or bool((lower.diagonal().square() <= _negligible(len(lower)) * m.covariance.diagonal()).any()):
        return None
    return lower


def _rows(m: Moments, lower: Tensor | None) -> Tensor:
    """(rank, d) R with R^T R = covariance, also of a singular one."""
    if m.factor is not None:
        return m.factor
    if lower is not None:
        return lower.T
    size = m.covariance.diagonal().clamp(min=0).sqrt()
    unit = torch.where(size > 0, size, 1.0)
    values, vectors = torch.linalg.eigh(m.covariance / unit / unit[:, None])
    keep = values > _negligible(len(size)) * values[-1].clamp(min=torch.finfo(torch.float64).tiny)
    return (vectors[:, keep] * values[keep].sqrt()).T * unit

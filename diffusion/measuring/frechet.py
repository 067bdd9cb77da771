"""The Frechet distance between two sets of feature vectors, each taken as a Gaussian."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Moments", "frechet", "moments"]


@dataclass(frozen=True, eq=False)
class Moments:
    """The Gaussian that stands for a set of feature vectors.

    Args:
        mean: float64 (d,).
        covariance: float64 (d, d), of the sample: divided by count - 1.
        count: how many vectors it was made of, >= 2.
    """

    mean: Tensor
    covariance: Tensor
    count: int


def moments(features: Tensor) -> Moments:
    """Mean and covariance of feature vectors, in float64 on their device.

    Args:
        features: (N, d), N >= 2. N <= d is allowed; the covariance is singular then.

    Raises:
        ValueError: for another shape, or numbers that are not finite.
    """
    if features.ndim != 2 or len(features) < 2 or features.shape[1] < 1:
        raise ValueError(f"features have shape {tuple(features.shape)}; allowed: (N, d) with N >= 2 and d >= 1")
    values = features.detach().double()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("features hold nan or infinite numbers; leave out pictures that no filter kept (Samples.kept)")
    mean = values.mean(0)
    centred = values - mean
    return Moments(mean, centred.T @ centred / (len(values) - 1), len(values))


def frechet(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + tr A + tr B - 2 tr (A B)^1/2 of two Gaussians with covariances A and B: 0 for equal ones.

    With A = L L^T the last trace is that of the root of L^T B L, which is symmetric: its eigenvalues are real, and none
    of the usual repairs (dropping imaginary parts, adding a small multiple of the identity) is needed. Few vectors make
    the estimate too large, so compare distances at equal counts only.

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
        if m.mean.shape != (d,) or m.covariance.shape != (d, d):
            raise ValueError(
                f"{name} has a mean of shape {tuple(m.mean.shape)} and a covariance of shape "
                f"{tuple(m.covariance.shape)}; allowed: ({d},) and ({d}, {d}), as a.mean; take both from features of the "
                "same network"
            )
    device = a.mean.device
    difference = a.mean.double() - b.mean.to(device, torch.float64)
    first, second = a.covariance.to(device, torch.float64), b.covariance.to(device, torch.float64)
    total = difference.square().sum() + first.trace() + second.trace() - 2 * _root_trace(first, second)
    # equal inputs differ from zero by rounding, in either direction
    return max(float(total), 0.0)


def _root_trace(a: Tensor, b: Tensor) -> Tensor:
    """tr (A B)^1/2 of symmetric positive semi-definite matrices."""
    lower = _cholesky(a)
    if lower is not None and _cholesky(b) is not None:
        return torch.linalg.eigvalsh(lower.T @ b @ lower).clamp(min=0).sqrt().sum()
    # The root of an eigenvalue that should be zero would turn a rounding error of 1e-16 into 1e-8. Singular values of
    # the factors' product are those roots, without the detour through their squares.
    return torch.linalg.svdvals(_factor(a).T @ _factor(b)).sum()


def _negligible(matrix: Tensor) -> float:
    """The variance below which a direction of this covariance is rounding error."""
    return float(matrix.diagonal().max()) * len(matrix) * torch.finfo(matrix.dtype).eps


def _cholesky(matrix: Tensor) -> Tensor | None:
    """The factor L, or None for a matrix that is singular to working precision."""
    lower, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed) or float(lower.diagonal().min()) ** 2 <= _negligible(matrix):
        return None
    return lower


def _factor(matrix: Tensor) -> Tensor:
    """(d, rank) F with F F^T = matrix, also for a singular one."""
    values, vectors = torch.linalg.eigh(matrix)
    keep = values > _negligible(matrix)
    return vectors[:, keep] * values[keep].sqrt()

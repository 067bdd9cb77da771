"""The Frechet distance: against closed forms and scipy, and where matrices are singular."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from sfumato.diffusion.measuring.frechet import Moments, frechet, moments


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(d: int, seed: int) -> Tensor:
    """Random, of full rank."""
    root = normals(d, 2 * d, seed=seed)
    return root @ root.T / d


def gaussian(d: int, seed: int) -> Moments:
    return Moments(normals(d, seed=seed), covariance(d, seed + 100), 2)


def by_scipy(a: Moments, b: Moments) -> float:
    root = np.asarray(scipy.linalg.sqrtm((a.covariance @ b.covariance).numpy()))
    traces = float(a.covariance.trace() + b.covariance.trace()) - 2 * float(np.trace(root).real)
    return float((a.mean - b.mean).square().sum()) + traces


def test_moments_are_those_of_numpy() -> None:
    x = normals(50, 7).float()
    m = moments(x)
    assert m.mean.dtype == m.covariance.dtype == torch.float64
    assert m.count == 50
    torch.testing.assert_close(m.mean, torch.tensor(np.mean(x.double().numpy(), axis=0)), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(m.covariance, torch.tensor(np.cov(x.double().numpy().T)), rtol=1e-13, atol=1e-15)


def test_moments_far_from_zero_keep_their_digits() -> None:
    x = normals(200, 5)
    torch.testing.assert_close(moments(x + 1e6).covariance, moments(x).covariance, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("d", [1, 2, 64, 300])
def test_closed_form_of_commuting_gaussians(d: int) -> None:
    # one basis, two spectra: the distance is |m - n|^2 + sum (sqrt p - sqrt q)^2
    basis = torch.linalg.qr(normals(d, d, seed=1)).Q
    p, q = normals(d, seed=2).exp(), normals(d, seed=3).exp()
    m, n = normals(d, seed=4), normals(d, seed=5)
    a, b = (Moments(mean, basis * v @ basis.T, 2) for mean, v in ((m, p), (n, q)))
    expected = float((m - n).square().sum() + (p.sqrt() - q.sqrt()).square().sum())
    assert frechet(a, b) == pytest.approx(expected, rel=1e-10)


def test_closed_form_of_diagonal_gaussians_by_hand() -> None:
    a = Moments(torch.tensor([0.0, 0.0]), torch.diag(torch.tensor([1.0, 4.0])), 2)
    b = Moments(torch.tensor([3.0, 4.0]), torch.diag(torch.tensor([9.0, 4.0])), 2)
    assert frechet(a, b) == pytest.approx(25 + 4, rel=1e-14)


@pytest.mark.parametrize("d", [2, 16, 128])
def test_agrees_with_scipy_on_matrices_of_full_rank(d: int) -> None:
    a, b = gaussian(d, 1), gaussian(d, 2)
    assert frechet(a, b) == pytest.approx(by_scipy(a, b), rel=1e-8)


def features_of_rank(n: int, d: int, seed: int) -> Moments:
    return moments(normals(n, d, seed=seed) + seed)


def full(d: int, seed: int) -> Moments:
    return features_of_rank(4 * d, d, seed)


def poor(d: int, seed: int) -> Moments:
    return features_of_rank(d // 3, d, seed)


def nuclear(a: Tensor, b: Tensor) -> float:
    """tr (A B)^1/2 from the features themselves: the nuclear norm of the product of the centred features."""
    a, b = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (a, b))
    return float(torch.linalg.matrix_norm(a @ b.T, "nuc"))


def test_fewer_vectors_than_features_agrees_with_the_nuclear_norm() -> None:
    x, y = normals(20, 64, seed=1), 2 * normals(30, 64, seed=2) + 1
    a, b = moments(x), moments(y)
    expected = float((a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace()) - 2 * nuclear(x, y)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-12)


def test_singular_in_the_same_directions_as_in_the_rest() -> None:
    # padding with zeros adds nothing: the singular way gives what the full-rank way gives
    a, b = gaussian(10, 1), gaussian(10, 2)

    def padded(m: Moments) -> Moments:
        return Moments(torch.cat([m.mean, torch.zeros(6)]), torch.block_diag(m.covariance, torch.zeros(6, 6)), 2)

    assert frechet(padded(a), padded(b)) == pytest.approx(frechet(a, b), rel=1e-12)


def test_of_constants_is_the_distance_of_the_means() -> None:
    a, b = moments(torch.zeros(5, 3)), moments(torch.ones(5, 3))
    assert frechet(a, b) == pytest.approx(3.0, rel=1e-15)


@pytest.mark.parametrize("left", [full, poor])
@pytest.mark.parametrize("right", [full, poor])
def test_is_symmetric(left: Callable[[int, int], Moments], right: Callable[[int, int], Moments]) -> None:
    a, b = left(48, 1), right(48, 2)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-11)


@pytest.mark.parametrize("kind", [full, poor])
def test_of_equal_sets_is_zero(kind: Callable[[int, int], Moments]) -> None:
    # to rounding, also where it is singular: a root of 1e-16 would show as 1e-8
    m = kind(48, 1)
    assert 0 <= frechet(m, m) < 1e-12 * float(m.covariance.trace())


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scales_with_the_square_of_the_features(scale: float) -> None:
    x, y = normals(30, 40, seed=1), normals(90, 40, seed=2)
    expected = frechet(moments(x), moments(y)) * scale**2
    assert frechet(moments(x * scale), moments(y * scale)) == pytest.approx(expected, rel=1e-10)


def test_a_mean_moved_by_one_is_found() -> None:
    x = normals(500, 32)
    moved = x.clone()
    moved[:, 0] += 1
    assert frechet(moments(x), moments(moved)) == pytest.approx(1.0, rel=1e-9)


@pytest.mark.parametrize("shape", [(5,), (1, 3), (0, 3), (4, 0), (2, 3, 4)])
def test_refuses_features_of_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"features have shape .* allowed: \(N, d\)"):
        moments(torch.zeros(shape))


def test_refuses_features_that_are_not_finite() -> None:
    x = normals(5, 3)
    x[2, 1] = math.nan
    with pytest.raises(ValueError, match="nan or infinite"):
        moments(x)


def test_refuses_moments_of_different_width() -> None:
    with pytest.raises(ValueError, match=r"b has a mean of shape \(4,\)"):
        frechet(gaussian(3, 1), gaussian(4, 1))

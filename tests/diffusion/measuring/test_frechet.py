"""The Frechet distance: against closed forms and scipy, and where matrices are singular."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor
from torchmetrics.image.fid import _compute_fid

from sfumato.diffusion.measuring.frechet import Moments, frechet, moments


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    """Nothing here may warn, singular or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


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


def test_closed_form_in_one_dimension() -> None:
    a, b = (Moments(torch.tensor([m]), torch.tensor([[s * s]]), 2) for m, s in ((1.0, 3.0), (-2.0, 0.5)))
    assert frechet(a, b) == pytest.approx(9 + 2.5**2, rel=1e-15)


def test_closed_form_of_two_features_that_do_not_commute() -> None:
    # of two eigenvalues p, q: (sqrt p + sqrt q)^2 = p + q + 2 sqrt(p q), so the trace of the root needs no eigenvalue
    a, b = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double(), torch.tensor([[5.0, -2.0], [-2.0, 1.0]]).double()
    product = a @ b
    assert not torch.equal(product, b @ a)
    root = math.sqrt(float(product.trace()) + 2 * math.sqrt(5.0 * 1.0))
    assert frechet(Moments(torch.zeros(2), a, 2), Moments(torch.ones(2), b, 2)) == pytest.approx(
        2 + 5 + 6 - 2 * root, rel=1e-14
    )


def test_of_equal_covariances_is_the_distance_of_the_means_exactly() -> None:
    m = gaussian(40, 1)
    assert frechet(m, Moments(m.mean + 2.0, m.covariance.clone(), 9)) == pytest.approx(160.0, rel=1e-14)
    assert frechet(m, m) == 0.0


@pytest.mark.parametrize("d", [2, 16, 128, 300])
def test_agrees_with_scipy_and_torchmetrics_on_matrices_of_full_rank(d: int) -> None:
    a, b = gaussian(d, 1), gaussian(d, 2)
    assert frechet(a, b) == pytest.approx(by_scipy(a, b), rel=1e-8)
    theirs = float(_compute_fid(a.mean, a.covariance, b.mean, b.covariance))
    assert frechet(a, b) == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
def test_agrees_with_scipy_and_torchmetrics_on_sets_that_are_nearly_alike(decay: float) -> None:
    # as features are: variances that fall by powers of ten, and a distance of a few per cent of them
    basis, scales = torch.linalg.qr(normals(96, 96, seed=5)).Q, torch.logspace(0, -decay, 96, dtype=torch.float64)
    a, b = (moments(normals(1000, 96, seed=s) * scales @ basis) for s in (1, 2))
    assert frechet(a, b) < 0.2 * float(a.covariance.trace())
    assert frechet(a, b) == pytest.approx(by_scipy(a, b), rel=1e-6)
    assert frechet(a, b) == pytest.approx(float(_compute_fid(a.mean, a.covariance, b.mean, b.covariance)), rel=1e-6)


def spectra(d: int, kind: str) -> tuple[Tensor, Tensor]:
    """Variances of two Gaussians with one basis, some of them zero."""
    p, q = normals(d, seed=2).exp(), normals(d, seed=3).exp()
    third = d // 3
    if kind != "regular":
        p[:third] = 0
    if kind == "both, the same":
        q[:third] = 0
    if kind == "both, others":
        q[third : 2 * third] = 0
    if kind == "disjoint":
        q[third:] = 0
    if kind == "nothing":
        p[:] = 0
    return p, q


@pytest.mark.parametrize("kind", ["regular", "one", "both, the same", "both, others", "disjoint", "nothing"])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("d", [3, 48, 200])
def test_closed_form_of_singular_gaussians_at_any_scale(kind: str, scale: float, d: int) -> None:
    basis = torch.linalg.qr(normals(d, d, seed=1)).Q
    p, q = spectra(d, kind)
    m = normals(d, seed=4) * scale
    a, b = (Moments(mean, basis * (v * scale**2) @ basis.T, 2) for mean, v in ((m, p), (0 * m, q)))
    expected = float(m.square().sum() + (p.sqrt() - q.sqrt()).square().sum() * scale**2)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-8)
    assert frechet(b, a) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("kind", ["regular", "one", "both, the same"])
def test_features_may_have_any_units(kind: str) -> None:
    # 24 orders of magnitude between features that are correlated within their kind: each kind's distance must be that of it alone
    p, q = (torch.diag(v) for v in spectra(12, kind))
    turn = torch.linalg.qr(normals(12, 12, seed=1)).Q
    a, b = turn @ p @ turn.T, turn @ q @ turn.T
    alone = frechet(Moments(torch.zeros(12), a, 2), Moments(torch.zeros(12), b, 2))
    small = 1e-12 * torch.eye(12, dtype=torch.float64)
    big = 1e12 * torch.eye(12, dtype=torch.float64)

    def mixed(first: Tensor, second: Tensor) -> Moments:
        return Moments(torch.zeros(24), torch.block_diag(big @ first @ big, small @ second @ small), 2)

    eye = torch.eye(12, dtype=torch.float64)
    assert frechet(mixed(a, eye), mixed(b, 4 * eye)) == pytest.approx(1e24 * alone, rel=1e-9)
    assert frechet(mixed(eye, a), mixed(eye, b)) == pytest.approx(1e-24 * alone, rel=1e-9, abs=1e10)


def test_the_determinant_finds_eigenvalues_that_drowned(monkeypatch: pytest.MonkeyPatch) -> None:
    # half of the variances are 1e-12 of the others: their products' eigenvalues of 1e-24 are below rounding, their roots are not
    d = 64
    basis = torch.linalg.qr(normals(d, d, seed=1)).Q
    p, q = torch.ones(d, dtype=torch.float64), torch.full((d,), 4.0, dtype=torch.float64)
    p[d // 2 :], q[d // 2 :] = 1e-11, 3e-11
    a, b = (Moments(torch.zeros(d), basis * v @ basis.T, 2) for v in (p, q))
    expected = float((p.sqrt() - q.sqrt()).square().sum())
    assert frechet(a, b) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(torch.linalg, "svdvals", lambda x: torch.linalg.eigvalsh(x @ x.T).clamp(min=0).sqrt())
    assert frechet(a, b) != pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("seed", range(6))
def test_the_determinant_finds_an_eigenvalue_that_is_positive_and_wrong(seed: int) -> None:
    # a single small one among eight comes out above zero in half of the cases, and the distance would be off by 1e-9 to 1e-8
    basis = torch.linalg.qr(normals(8, 8, seed=seed)).Q
    p, q = torch.ones(8, dtype=torch.float64), torch.full((8,), 4.0, dtype=torch.float64)
    p[7], q[7] = 1e-9, 3e-9
    a, b = (Moments(torch.zeros(8), basis * v @ basis.T, 2) for v in (p, q))
    assert frechet(a, b) == pytest.approx(float((p.sqrt() - q.sqrt()).square().sum()), rel=1e-12)


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


@pytest.mark.parametrize(("n", "m"), [(2, 2), (20, 30), (64, 64), (20, 500), (500, 63)])
def test_the_factor_of_few_vectors_and_their_covariance_say_the_same(n: int, m: int) -> None:
    a, b = moments(normals(n, 64, seed=1)), moments(2 * normals(m, 64, seed=2) + 1)
    for x in (a, b):
        assert (x.factor is None) == (x.count > 64)
        if x.factor is not None:
            assert len(x.factor) == x.count - 1
            torch.testing.assert_close(x.factor.T @ x.factor, x.covariance, rtol=1e-12, atol=1e-14)
    bare = [Moments(x.mean, x.covariance, x.count) for x in (a, b)]
    assert frechet(a, b) == pytest.approx(frechet(*bare), rel=1e-9)


def test_vectors_that_are_all_alike_but_for_a_few() -> None:
    # a collapsed generator: a factor that is singular itself
    x = normals(3, 50, seed=1).repeat(10, 1)
    y = normals(40, 50, seed=2)
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

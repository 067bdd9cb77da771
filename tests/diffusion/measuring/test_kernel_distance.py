"""The kernel distance: brute force, torchmetrics, no bias, and an interval that holds the truth as often as it says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.diffusion.measuring import kernel
from sfumato.diffusion.measuring.kernel import kernel_distance, kernel_distance_of_subsets


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(x: Tensor, y: Tensor, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> float:
    """Pair by pair."""
    a, b, scale = x.double().tolist(), y.double().tolist(), gamma or 1 / x.shape[1]

    def k(u: list[float], v: list[float]) -> float:
        return (scale * sum(p * q for p, q in zip(u, v, strict=True)) + coef) ** degree

    within = [
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
        for s in (a, b)
    ]
    return sum(within) - 2 * sum(k(u, v) for u in a for v in b) / (len(a) * len(b))


@pytest.mark.parametrize(("degree", "gamma", "coef"), [(3, None, 1.0), (2, 0.3, 0.5), (1, 1.0, 0.0)])
def test_is_brute_force_in_any_blocks(
    degree: int, gamma: float | None, coef: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = normals(23, 5, seed=1) + 0.5, 1.3 * normals(31, 5, seed=2)
    whole = kernel_distance(x, y, degree, gamma, coef)
    monkeypatch.setattr(kernel, "_BLOCK", 7)
    blocks = kernel_distance(x, y, degree, gamma, coef)
    assert whole.value == pytest.approx(by_hand(x, y, degree, gamma, coef), rel=1e-11)
    assert blocks.value == pytest.approx(whole.value, rel=1e-12)
    assert blocks.error == pytest.approx(whole.error, rel=1e-10)


def test_the_error_is_the_jackknife() -> None:
    x, y = normals(9, 3, seed=1) + 0.5, normals(7, 3, seed=2)
    variance = 0.0
    for count, left in (
        (9, [by_hand(torch.cat([x[:i], x[i + 1 :]]), y) for i in range(9)]),
        (7, [by_hand(x, torch.cat([y[:i], y[i + 1 :]])) for i in range(7)]),
    ):
        mean = sum(left) / count
        variance += (count - 1) / count * sum((v - mean) ** 2 for v in left)
    found = kernel_distance(x, y)
    assert found.error == pytest.approx(math.sqrt(variance), rel=1e-9)
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * found.error, found.value + 1.96 * found.error)
    )


def test_is_that_of_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

    class Flat(torch.nn.Module):
        num_features = 12

        def forward(self, pictures: Tensor) -> Tensor:
            return pictures.flatten(1).double() / 100

    x, y = (torch.randint(0, 256, (40, 3, 2, 2), generator=torch.Generator().manual_seed(s)).byte() for s in (1, 2))
    peer = KernelInceptionDistance(feature=Flat(), subsets=2, subset_size=40)
    peer.update(x, real=True)
    peer.update(y, real=False)
    known = float(peer.compute()[0])
    a, b = Flat()(y), Flat()(x)
    assert kernel_distance(a, b).value == pytest.approx(float(poly_mmd(b, a)), rel=1e-12)
    assert kernel_distance(a, b).value == pytest.approx(known, rel=1e-6)
    # the subset of all is the set, in any order
    assert kernel_distance_of_subsets(a, b, 3, 40) == pytest.approx((known, 0), rel=1e-6, abs=1e-9)


def truth(mean: Tensor, spread: Tensor) -> float:
    """The squared distance of N(mean, diag spread^2) from N(0, 1) under the default kernel: Isserlis' third moments."""
    d, one, zero = len(mean), torch.ones_like(mean), torch.zeros_like(mean)

    def k(m: Tensor, s: Tensor, n: Tensor, t: Tensor) -> float:
        """E (x.y / d + 1)^3 for independent x of N(m, diag s), y of N(n, diag t)."""
        first = float(m @ n)
        second = first**2 + float(n.square() @ s + m.square() @ t + s @ t)
        third = first**3 + 3 * first * float(n.square() @ s + m.square() @ t + s @ t) + 6 * float((m * t * s * n).sum())
        return 1 + 3 * first / d + 3 * second / d**2 + third / d**3

    s = spread.square()
    return k(mean, s, mean, s) + k(zero, one, zero, one) - 2 * k(mean, s, zero, one)


MEAN, SPREAD = torch.tensor([0.5, -0.2, 0.0, 0.3]).double(), torch.tensor([1.2, 0.7, 1.0, 1.5]).double()


def test_of_many_vectors_is_the_closed_form_of_gaussians() -> None:
    x, y = MEAN + SPREAD * normals(6000, 4, seed=1), normals(5000, 4, seed=2).double()
    found = kernel_distance(x, y)
    assert found.error < 0.2 * truth(MEAN, SPREAD)
    assert found.low < truth(MEAN, SPREAD) < found.high


@pytest.mark.parametrize("same", [True, False])
def test_has_no_bias_and_its_interval_holds_the_truth_as_often_as_it_says(same: bool) -> None:
    repeats, n, m, d = 400, 50, 40, 16
    mean, spread = (torch.zeros(d).double(), torch.ones(d).double()) if same else (MEAN.repeat(4), SPREAD.repeat(4))
    known = truth(mean, spread)
    found = [
        kernel_distance(mean + spread * normals(n, d, seed=2 * i), normals(m, d, seed=2 * i + 1))
        for i in range(repeats)
    ]
    values = torch.tensor([f.value for f in found], dtype=torch.float64)
    assert abs(float(values.mean()) - known) < 3 * float(values.std()) / math.sqrt(repeats)
    # the diagonal, where E k(x, x) is above 8, would add many times what could hide here
    assert float(values.std()) / math.sqrt(repeats) < 0.05 * (8 / n + 8 / m)
    held = sum(f.low <= known <= f.high for f in found) / repeats
    assert held >= 0.95 if same else 0.91 <= held <= 0.98
    ratio = math.sqrt(sum(f.error**2 for f in found) / repeats) / float(values.std())
    assert 1.25 < ratio < 1.6 if same else 0.9 < ratio < 1.2  # of equal laws sqrt 2


def test_subsets_are_a_function_of_the_seed_and_around_the_distance_of_all() -> None:
    x, y = normals(200, 4, seed=1) + 0.5, normals(150, 4, seed=2)
    mean, std = kernel_distance_of_subsets(x, y, 100, 50)
    assert (mean, std) == kernel_distance_of_subsets(x, y, 100, 50, seed=0)
    assert mean != kernel_distance_of_subsets(x, y, 100, 50, seed=1)[0]
    assert abs(mean - kernel_distance(x, y).value) < 3 * std / 10
    # the two sets are drawn apart from each other: rows that belong together would lie in the same subsets, and be too near
    mean, std = kernel_distance_of_subsets(x, x, 100, 50)
    assert abs(mean - kernel_distance(x, x).value) < 3 * std / 10
    one, two = (kernel_distance_of_subsets(x, y, 1, 50, seed=s) for s in (3, 4))
    assert one[1] == two[1] == 0


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: kernel_distance(torch.zeros(2, 3), torch.zeros(9, 3)), "fake has shape"),
        (lambda: kernel_distance(torch.zeros(9, 3), torch.zeros(9, 3), gamma=0.0), "gamma > 0 or None"),
        (lambda: kernel_distance(torch.zeros(9, 3), torch.zeros(9, 3), coef=math.nan), "coef >= 0, finite"),
        (
            lambda: kernel_distance_of_subsets(torch.zeros(9, 3), torch.zeros(8, 3), size=9),
            "size is 9; allowed: 2 to 8",
        ),
        (lambda: kernel_distance_of_subsets(torch.zeros(9, 3), torch.zeros(8, 3), 0, 5), "subsets is 0"),
    ],
)
def test_mistakes_are_refused(ask, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ask()

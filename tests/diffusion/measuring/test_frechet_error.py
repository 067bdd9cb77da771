"""The error of a Frechet distance: the jackknife by hand, and how often it holds what it says, where the truth is known."""

import math
import statistics

import pytest
import torch

from sfumato.diffusion.measuring.frechet import Moments, frechet, moments
from sfumato.diffusion.measuring.frechet_error import _without, frechet_with_error


def normals(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("far", [0.0, 1e5])
def test_moments_without_a_group_are_those_of_the_others(far):
    x = normals(100, 7) * torch.arange(1, 8) + far
    left, others = _without(moments(x), x[:30]), moments(x[30:])
    assert left.count == others.count == 70
    torch.testing.assert_close(left.mean, others.mean, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(
        left.covariance, others.covariance, rtol=1e-7 if far else 1e-12, atol=1e-7 if far else 1e-12
    )


@pytest.mark.parametrize(("n", "d"), [(60, 4), (40, 37), (40, 80)])
def test_it_is_the_jackknife_worked_out_by_hand(n, d):
    """With more and with fewer vectors than features, and between: with all of them regular, without a group singular."""
    x, y = normals(n, d, seed=1), 2 * normals(n + 20, d, seed=2)
    found = frechet_with_error(x, y, groups=10, seed=3)
    variance = 0.0
    for changing, other in ((x, y), (y, x)):
        order = torch.randperm(len(changing), generator=torch.Generator().manual_seed(3))
        size = len(changing) // 10
        without = [
            frechet(moments(changing[torch.cat([order[: i * size], order[(i + 1) * size :]])]), moments(other))
            for i in range(10)
        ]
        variance += 0.9 * sum((v - statistics.fmean(without)) ** 2 for v in without)
    assert found.error == pytest.approx(math.sqrt(variance), rel=1e-9)
    assert found.value == frechet(moments(x), moments(y))
    assert (found.low, found.high) == (max(0.0, found.value - 2 * found.error), found.value + 2 * found.error)
    assert found.counts == (n, n + 20)


def test_the_interval_of_a_squared_distance_ends_at_zero():
    x = normals(60, 4)
    found = frechet_with_error(x, moments(x))
    assert found.value < 2 * found.error
    assert found.low == 0.0


@pytest.mark.parametrize(
    ("d", "n", "shift", "scale", "both", "most"),
    [
        (8, 300, 0.3, 1.2, False, 1.3),
        (8, 300, 0.3, 1.2, True, 1.3),
        (8, 300, 0.0, 1.0, True, 2.0),
        (48, 44, 0.3, 1.2, False, 4.0),
    ],
)
def test_the_interval_holds_the_mean_over_draws(d, n, shift, scale, both, most):
    """It is about the distance at n, whose mean over draws is taken here, and which is above that of the distributions."""
    draw = torch.Generator().manual_seed(1)
    reference = Moments(torch.full((d,), shift).double(), scale**2 * torch.eye(d, dtype=torch.float64), 10**9)
    found = []
    for _ in range(80):
        x, y = (torch.randn(n, d, dtype=torch.float64, generator=draw) for _ in range(2))
        found.append(frechet_with_error(x, y * scale + shift if both else reference))
    mean, spread = statistics.fmean(f.value for f in found), statistics.stdev(f.value for f in found)
    assert sum(f.low <= mean <= f.high for f in found) / len(found) >= 0.88  # 0.95 -+ 3 standard errors of 80 draws
    assert 0.8 < statistics.fmean(f.error for f in found) / spread < most  # rather too large, most so below d vectors
    truth = d * (shift**2 + (1 - scale) ** 2)
    assert mean > truth + 3 * spread / 80**0.5


def test_refusals():
    x = normals(30, 3)
    with pytest.raises(ValueError, match="groups is 4; allowed: 5 or more"):
        frechet_with_error(x, x, groups=4)
    with pytest.raises(ValueError, match="fake has 30 vectors; allowed: 40 or more"):
        frechet_with_error(x, moments(x))
    with pytest.raises(ValueError, match="real has 30 vectors; allowed: 40 or more"):
        frechet_with_error(normals(90, 3), x)

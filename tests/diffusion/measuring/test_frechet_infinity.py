"""The Frechet distance at infinitely many vectors: on Gaussians, where it is known, and small sets are visibly biased."""

import math
import statistics

import pytest
import torch

from sfumato.diffusion.measuring.frechet import Moments, frechet, moments
from sfumato.diffusion.measuring.frechet_error import frechet_with_error
from sfumato.diffusion.measuring.frechet_infinity import _line, frechet_infinity


def test_a_line_is_found_exactly():
    value, slope, error = _line([2.0 + 0.5 * k for k in range(1, 6)])
    assert (value, slope) == (pytest.approx(2.0, rel=1e-13), pytest.approx(0.5, rel=1e-13))
    assert error == pytest.approx(0.0, abs=1e-12)
    # by hand, weights 1/k: three points 1, 3, 4
    value, slope, error = _line([1.0, 3.0, 4.0])
    k, y, w = torch.tensor([1.0, 2, 3]), torch.tensor([1.0, 3, 4]), torch.tensor([1, 1 / 2, 1 / 3])
    x, m = float((w * k).sum() / w.sum()), float((w * y).sum() / w.sum())
    by_hand = float((w * (k - x) * (y - m)).sum() / (w * (k - x) ** 2).sum())
    assert slope == pytest.approx(by_hand, rel=1e-6)
    assert value == pytest.approx(m - by_hand * x, rel=1e-6)
    # a parabola through all three is at 3 y1 - 3 y2 + y3 = -2; the residuals' part is a third of the way there, as of any three points
    assert error == pytest.approx(math.hypot(1, 1 / 3) * abs(value + 2), rel=1e-6)


@pytest.mark.parametrize("parts", [3, 4, 5, 8])
def test_where_the_points_bend_the_error_covers_it(parts):
    value, _, error = _line([k + 0.1 * k * k for k in range(1, parts + 1)])
    assert 0.29 < abs(value) <= error < 1.1 * abs(value)


@pytest.mark.parametrize(("shift", "scale", "both"), [(0.2, 1.1, False), (0.2, 1.1, True), (0.0, 1.0, True)])
def test_the_truth_is_within_the_interval_and_the_plain_distance_is_far_from_it(shift, scale, both):
    d, n, draw = 16, 400, torch.Generator().manual_seed(1)
    reference = Moments(torch.full((d,), shift).double(), scale**2 * torch.eye(d, dtype=torch.float64), 10**9)
    truth, plain, found = d * (shift**2 + (1 - scale) ** 2), [], []
    for _ in range(40):
        x, y = (torch.randn(n, d, dtype=torch.float64, generator=draw) for _ in range(2))
        real = y * scale + shift if both else reference
        found.append(frechet_infinity(x, real))
        plain.append(found[-1].distances[0])
    bias, spread = statistics.fmean(plain) - truth, statistics.stdev(f.value for f in found)
    left = statistics.fmean(f.value for f in found) - truth
    assert bias > 1.5 * statistics.stdev(plain)
    assert abs(left) < 0.1 * bias + 3 * spread / 40**0.5
    assert sum(f.low <= truth <= f.high for f in found) / len(found) >= 0.85
    assert 0.8 < statistics.fmean(f.error for f in found) / spread < 2.0
    assert statistics.fmean(f.slope / n for f in found) == pytest.approx(bias, rel=0.25)


@pytest.mark.parametrize(("parts", "n"), [(3, 384), (5, 640)])
def test_few_vectors_per_feature_bend_the_line_and_the_interval_knows(parts, n):
    """As few as are allowed, of features of equal variance: the worst case."""
    d, draw = 64, torch.Generator().manual_seed(1)
    reference = Moments(torch.zeros(d).double(), torch.eye(d, dtype=torch.float64), 10**9)
    found = [
        frechet_infinity(torch.randn(n, d, dtype=torch.float64, generator=draw), reference, parts, groups=5)
        for _ in range(20)
    ]
    values = [f.value for f in found]
    assert statistics.fmean(values) < -2 * statistics.stdev(values) / 20**0.5  # the line takes too much
    assert sum(f.low <= 0 <= f.high for f in found) >= 17


def test_its_points_are_the_distances_of_parts():
    x, real = torch.randn(120, 4, generator=torch.Generator().manual_seed(1)), Moments(torch.zeros(4), torch.eye(4), 99)
    found = frechet_infinity(x, real, parts=3, seed=5)
    order = torch.randperm(120, generator=torch.Generator().manual_seed(5))
    assert found.counts == (120, 60, 40)
    by_hand = [statistics.fmean(frechet(moments(x[i]), real) for i in order.tensor_split(k)) for k in (1, 2, 3)]
    assert found.distances == pytest.approx(by_hand, rel=1e-12)
    assert found.error >= frechet_with_error(x, real, seed=5).error
    assert frechet_infinity(x, real, parts=3, seed=5) == found


def test_refusals():
    x = torch.randn(100, 16)
    with pytest.raises(ValueError, match="parts is 2; allowed: 3 or more"):
        frechet_infinity(x, moments(x), parts=2)
    with pytest.raises(ValueError, match=r"fake has shape \(100, 16\); allowed: \(N, d\) with N >= 2 d x parts \(5\)"):
        frechet_infinity(x, moments(x))
    with pytest.raises(ValueError, match=r"real has shape \(100, 16\)"):
        frechet_infinity(torch.randn(200, 16), x)

"""The sliced Wasserstein distance: closed forms, brute force on lines, no bias, and control variates that pay."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import pytest
import scipy.stats
import torch
from torch import Tensor

from sfumato.diffusion.measuring import sliced
from sfumato.diffusion.measuring.line import kolmogorov_smirnov, pieces, wasserstein
from sfumato.diffusion.measuring.sliced import directions, sliced_wasserstein

CONTROLS = ("none", "lower", "upper")


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_hand(x: Tensor, y: Tensor, power: int) -> float:
    """The quantile functions, each repeated to a common length."""
    n, m = len(x), len(y)
    a, b = x.double().sort().values.repeat_interleave(m), y.double().sort().values.repeat_interleave(n)
    return float((a - b).abs().pow(power).mean())


@pytest.mark.parametrize(("n", "m"), [(7, 7), (7, 5), (12, 18), (1, 4)])
def test_on_a_line_is_brute_force_and_scipy(n: int, m: int) -> None:
    x, y = normals(n, seed=1), normals(m, seed=2) + 0.3
    assert float(wasserstein(x, y)) == pytest.approx(scipy.stats.wasserstein_distance(x.numpy(), y.numpy()), rel=1e-6)
    for power in (1, 2):
        assert float(wasserstein(x, y, power)) == pytest.approx(by_hand(x, y, power), rel=1e-12)
    assert kolmogorov_smirnov(x, y) == pytest.approx(scipy.stats.ks_2samp(x.numpy(), y.numpy()).statistic)
    tied, others = (x * 2).round(), (y * 2).round()
    known = scipy.stats.ks_2samp(tied.numpy(), others.numpy()).statistic
    assert kolmogorov_smirnov(tied, others) == pytest.approx(known)
    widths, _, _ = pieces(n, m)
    assert float(widths.sum()) == pytest.approx(1, abs=1e-15)
    assert len(widths) == n + m - math.gcd(n, m)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 21)])
def test_in_one_dimension_is_the_distance_on_the_line(control, n: int, m: int) -> None:
    x, y = normals(n, 1, seed=1), 2 * normals(m, 1, seed=2)
    found = sliced_wasserstein(x, y, 10, control)
    assert found.value == pytest.approx(by_hand(x[:, 0], y[:, 0], 2), rel=1e-9)
    assert found.error < 1e-12


def test_without_control_is_the_mean_over_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normals(30, 5, seed=1), 2 * normals(21, 5, seed=2) + 0.3
    lines = directions(4, slice(0, 12), 5)
    assert torch.allclose(lines.norm(dim=1), torch.ones(12).double())
    assert torch.equal(directions(4, slice(7, 12), 5), lines[7:])
    each = [by_hand(x.double() @ line, y.double() @ line, 2) for line in lines]
    monkeypatch.setattr(sliced, "_ROWS", 8)
    monkeypatch.setattr(sliced, "_NUMBERS", 51 * 5)
    found = sliced_wasserstein(x, y, 12, "none", seed=4)
    assert found.value == pytest.approx(sum(each) / 12, rel=1e-10)
    assert found.error == pytest.approx(statistics.stdev(each) / math.sqrt(12), rel=1e-9)
    assert sliced_wasserstein(x, y, 12, "none", seed=5).value != found.value


def test_of_a_moved_cloud_is_exact_with_the_lower_variate() -> None:
    """On a line with direction theta it is (theta m)^2, which is the variate itself: the mean |m|^2 / d without an error."""
    x, move = normals(50, 6), torch.tensor([1.0, 2.0, 0.0, -1.0, 0.5, 0.0])
    known = float(move.square().sum()) / 6
    found = sliced_wasserstein(x, x + move, 20, "lower")
    assert found.value == pytest.approx(known, rel=1e-6)
    assert found.error < 1e-6 * known
    plain = sliced_wasserstein(x, x + move, 2000, "none")
    assert abs(plain.value - known) < 4 * plain.error
    assert plain.error == pytest.approx(
        known * math.sqrt(2 * 5 / 8) / math.sqrt(2000), rel=0.1
    )  # of theta_1^2, a beta law


@pytest.mark.parametrize("control", CONTROLS)
def test_of_gaussians_is_the_closed_form(control) -> None:
    """|m|^2 / d + (1 - s)^2 for N(m, s^2) and N(0, 1)."""
    move = torch.tensor([0.6, -0.3, 0.2])
    x, y = 1.5 * normals(20000, 3, seed=1) + move, normals(15000, 3, seed=2)
    found = sliced_wasserstein(x, y, 200, control)
    assert found.value == pytest.approx(float(move.square().sum()) / 3 + 0.25, abs=4 * found.error + 0.02)


@pytest.mark.parametrize("control", CONTROLS)
def test_has_no_bias_at_few_lines_and_its_error_is_what_it_says(control) -> None:
    x, y = normals(25, 4, seed=1) * torch.tensor([0.5, 1.0, 2.0, 3.0]), normals(20, 4, seed=2) + 0.5
    truth = sliced_wasserstein(x, y, 20000, "lower", seed=9)
    found = [sliced_wasserstein(x, y, 6, control, seed=100 + i) for i in range(300)]
    values = torch.tensor([f.value for f in found]).double()
    sure = math.hypot(float(values.std()) / math.sqrt(300), truth.error)
    assert abs(float(values.mean()) - truth.value) < 3 * sure
    at_hundred = torch.tensor([sliced_wasserstein(x, y, 100, control, seed=i).value for i in range(80)]).double()
    said = sliced_wasserstein(x, y, 3600, control).error * 6
    assert float(at_hundred.std()) == pytest.approx(said, rel=0.3)


@pytest.mark.parametrize(("control", "less"), [("lower", 20), ("upper", 3)])
def test_control_variates_reduce_the_variance(control, less: float) -> None:
    """Gaussian-like clouds: with different means for the lower one, with different directions for the upper one."""
    x, y = normals(300, 8, seed=1), normals(300, 8, seed=2)
    x = x + 0.7 if control == "lower" else x * torch.linspace(0.2, 2, 8)
    plain, better = (sliced_wasserstein(x, y, 500, c).error for c in ("none", control))
    assert (plain / better) ** 2 > less


def test_a_variate_of_nothing_is_left_alone() -> None:
    x = normals(40, 3)
    y = x.flip(0)
    assert sliced_wasserstein(x, y, 10, "lower").value == pytest.approx(0, abs=1e-12)
    balanced = torch.cat([x, -x])  # both means are 0
    wide = 2 * balanced
    a, b = (sliced_wasserstein(wide, balanced, 50, c) for c in ("none", "lower"))
    assert a.value == pytest.approx(b.value, rel=1e-9)


def test_is_symmetric_and_scales_with_the_square() -> None:
    x, y = normals(30, 4, seed=1), 1.4 * normals(17, 4, seed=2) + 0.2
    value = sliced_wasserstein(x, y, 50).value
    assert sliced_wasserstein(y, x, 50).value == pytest.approx(value, rel=1e-10)
    assert sliced_wasserstein(3 * x, 3 * y, 50).value == pytest.approx(9 * value, rel=1e-5)


def test_directions_are_uniform_on_the_sphere() -> None:
    lines = directions(0, slice(0, 4000), 3)
    angles = lines @ torch.tensor([0.6, 0.0, 0.8]).double()
    # on a sphere in three dimensions every coordinate is uniform in [-1, 1]
    assert scipy.stats.kstest(angles.numpy(), scipy.stats.uniform(-1, 2).cdf).pvalue > 0.01
    assert all(abs(float(a @ b)) < 1 for a, b in pairwise(lines[:20]))


def test_mistakes_are_refused() -> None:
    x = torch.zeros(4, 3)
    with pytest.raises(ValueError, match="allowed: >= 6, and 'none', 'lower' or 'upper'"):
        sliced_wasserstein(x, x, 5)
    with pytest.raises(ValueError, match="real is 2 wide"):
        sliced_wasserstein(x, torch.zeros(4, 2))

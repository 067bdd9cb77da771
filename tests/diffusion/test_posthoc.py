"""Averages made afterwards: exact inner products, stored lengths come back, others converge with the number of snapshots."""

import itertools
import math
import warnings

import pytest
import torch
from averaged import stored_in, walk
from scipy.integrate import quad
from scipy.optimize import brentq

from sfumato.diffusion.posthoc import Stored, fit, reconstruct
from sfumato.diffusion.profiles import (
    LONGEST,
    Exponential,
    Power,
    gamma_of,
    inner_product,
    length_in,
    length_of,
    name_of,
)


def number(value):
    return torch.tensor(float(value), dtype=torch.float64)


@pytest.mark.parametrize("length", [1e-3, 0.01, 0.05, 0.1, 0.2, 1 / math.sqrt(12), 0.3, LONGEST])
def test_the_power_of_a_length_is_its_inverse(length):
    assert length_of(gamma_of(length)) == pytest.approx(length, rel=1e-14)
    if length < 0.29:  # another root finder; near the longest the root is double
        root = brentq(lambda g: (g + 1) / ((g + 2) ** 2 * (g + 3)) - length**2, -0.38, 2 / length, xtol=1e-13)
        assert gamma_of(length) == pytest.approx(root, rel=1e-12, abs=1e-12)


def test_known_powers():
    """Of the plain mean, and of the two lengths that the paper stores (gamma 16.97 and 6.94)."""
    assert gamma_of(1 / math.sqrt(12)) == pytest.approx(0.0, abs=1e-12)
    assert (gamma_of(0.05), gamma_of(0.1)) == (pytest.approx(16.97, abs=5e-3), pytest.approx(6.94, abs=5e-3))
    assert gamma_of(0.3) == pytest.approx(-1 / 3, abs=1e-12)
    for wrong in (0.0, -0.1, 0.31, math.nan, True):
        with pytest.raises(ValueError, match=r"allowed: above 0 to 0\.3"):
            gamma_of(wrong)


def test_a_relative_width_is_that_of_its_weights():
    i = torch.arange(1, 20001, dtype=torch.float64) - 0.5
    for length in (0.02, 0.1, 0.25):
        w = Power(length).weights(20000)
        mean = w @ i
        assert float((w @ (i - mean) ** 2).sqrt() / 20000) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("length", [0.03, 0.1, 0.3])
def test_weights_are_those_of_the_recursion_and_of_the_integral(length):
    power, steps = Power(length), 40
    found = torch.zeros(steps, dtype=torch.float64)
    for step in range(1, steps + 1):
        found *= 1 - power.rate(step)
        found[step - 1] += power.rate(step)
    assert torch.allclose(found, power.weights(steps), rtol=1e-12, atol=1e-15)
    g = power.gamma
    exact = [quad(lambda x: (g + 1) * x**g / steps ** (g + 1), i, i + 1, epsabs=0, epsrel=1e-13)[0] for i in (1, 7, 39)]
    assert power.weights(steps)[[1, 7, 39]].tolist() == pytest.approx(exact, rel=1e-11)
    assert float(power.weights(steps).sum()) == pytest.approx(1.0, abs=1e-14)


def test_the_exponential_profile_is_what_ema_computes():
    profile, steps = Exponential(0.9), 300
    found = torch.zeros(steps + 1, dtype=torch.float64)
    found[0] = 1.0
    for step in range(1, steps + 1):
        decay = min(0.9, (1 + step) / (10 + step))
        found *= decay
        found[step] += 1 - decay
    start, rest = found[0], found[1:].clone()
    rest[0] += start
    assert torch.allclose(rest, profile.weights(steps), rtol=1e-12, atol=1e-300)
    assert float(profile.weights(3).sum()) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize(("a", "b"), [((0.05, 1000), (0.1, 700)), ((0.02, 300), (0.28, 5000)), ((0.1, 64), (0.1, 64))])
def test_inner_products_are_the_integrals(a, b):
    (ga, ta), (gb, tb) = (gamma_of(a[0]), a[1]), (gamma_of(b[0]), b[1])

    def product(x):
        return (ga + 1) * (x / ta) ** ga / ta * (gb + 1) * (x / tb) ** gb / tb

    ends = [min(ta, tb) * share for share in (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 1.0)]
    numeric = sum(quad(product, u, v, epsabs=0, epsrel=1e-13)[0] for u, v in itertools.pairwise(ends))
    exact = float(inner_product(number(ga), number(ta), number(gb), number(tb)))
    assert exact == pytest.approx(numeric, rel=1e-12)
    assert float(inner_product(number(gb), number(tb), number(ga), number(ta))) == pytest.approx(exact, rel=1e-14)


def test_a_stored_length_is_found_again_by_the_solver():
    """Moved by 1e-13, so that it is not simply looked up."""
    stored = [(t, length) for t in range(100, 2001, 100) for length in (0.05, 0.1)]
    for length in (0.05, 0.1):
        for step in (700, 2000):
            found = fit(Power(length + 1e-13), step, stored)
            expected = torch.tensor([float(s == (step, length)) for s in stored], dtype=torch.float64)
            assert torch.allclose(found.shares, expected, atol=1e-8)
            assert found.residual < 1e-7
            assert torch.equal(fit(Power(length), step, stored).shares, expected)


@pytest.mark.parametrize("profile", [Power(0.02), Power(0.12), Power(0.28), Exponential(0.99)])
@pytest.mark.filterwarnings("ignore:.*beyond what they support")
def test_shares_and_weights_sum_to_one(profile):
    for count, step in ((2, 2000), (5, 1700), (40, 2000), (40, 1973)):
        stored = [(2000 * i // count, length) for i in range(1, count + 1) for length in (0.05, 0.1)]
        found = fit(profile, step, stored)
        assert float(found.shares.sum()) == pytest.approx(1.0, abs=1e-12)
        assert float(found.weights().sum()) == pytest.approx(1.0, abs=1e-11)


def test_the_residual_is_that_of_the_weights():
    """By the closed form and summed over steps, which agree as steps become many."""
    stored = [(t, length) for t in range(2000, 20001, 2000) for length in (0.05, 0.1)]
    for profile in (Power(0.03), Power(0.15), Exponential(0.999)):
        found = fit(profile, 20000, stored)
        wanted = profile.weights(20000)
        assert found.residual == pytest.approx(float((found.weights() - wanted).norm() / wanted.norm()), rel=2e-2)


@pytest.mark.filterwarnings("ignore:.*beyond what they support")
def test_no_other_shares_are_nearer():
    """Moved in any direction that keeps the sum, the discrete distance grows: first order vanishes, second does not."""
    stored = [(t, length) for t in range(5000, 20001, 5000) for length in (0.05, 0.1)]
    functions = torch.stack([torch.nn.functional.pad(Power(s).weights(t), (0, 20000 - t)) for t, s in stored])
    for profile in (Power(0.07), Exponential(0.9995)):
        found = fit(profile, 20000, stored)
        missing = found.weights() - profile.weights(20000)
        slope = functions @ missing
        slope -= slope.mean()
        assert float(slope.abs().max()) < 1e-3 * float(missing.norm() * functions.norm(dim=1).max())


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """A walk of 960 steps with a snapshot each 15."""
    folder = tmp_path_factory.mktemp("walk")
    _, averages, path = walk(960, folder, 15, size=16)
    return stored_in(folder), averages, path


@pytest.mark.filterwarnings("ignore:.*beyond what they support")
@pytest.mark.parametrize("profile", [Power(0.03), Power(0.07), Power(0.2), Exponential(0.99)])
def test_unseen_averages_of_a_walk_converge_with_snapshots(walked, profile):
    everything, _, path = walked
    truth, errors, residuals = torch.einsum("t,tij->ij", profile.weights(960), path), [], []
    for every in (240, 60, 15):
        stored = [s for s in everything if s.step % every == 0]
        found = fit(profile, 960, [(s.step, s.length) for s in stored])
        made = reconstruct(found, stored)["matrix"].double()
        errors.append(float((made - truth).norm() / (path[-1] - truth).norm()))
        residuals.append(found.residual)
        # the error of the weights is all the error there is
        assert torch.allclose(made, torch.einsum("t,tij->ij", found.weights(), path), atol=2e-3)
    assert residuals[0] > 2.5 * residuals[1] > 6 * residuals[2]
    assert errors[0] > 2.5 * errors[1] > 6 * errors[2]
    assert errors[2] < 0.01


def test_a_stored_average_of_a_walk_comes_back(walked):
    stored, averages, path = walked
    stored = [s for s in stored if s.step % 60 == 0]
    times = [(s.step, s.length) for s in stored]
    for length in (0.05, 0.1):
        made = reconstruct(fit(Power(length), 960, times), stored)
        assert all(torch.equal(made[k], v) for k, v in averages.tensors()[name_of(length)].items())
        solved = reconstruct(fit(Power(length + 1e-12), 960, times), stored)["matrix"]
        assert torch.allclose(solved, made["matrix"], rtol=1e-6, atol=1e-6 * float(made["matrix"].abs().max()))
        truth = torch.einsum("t,tij->ij", Power(length).weights(960), path)
        assert torch.allclose(made["matrix"].double(), truth, rtol=0, atol=1e-5 * float(truth.abs().max()))
    assert int(made["count"]) == 960
    assert made["seen"].tolist() == [960.0, 960.0]


def test_weights_that_stand_still_are_kept(walked):
    """The number grows by 1 a step, so any average of it is the mean of its profile; no bias from shares that miss 1."""
    stored = walked[0]
    found = fit(Power(0.2), 960, [(s.step, s.length) for s in stored])
    made = float(reconstruct(found, stored)["number"])
    i = torch.arange(1, 961, dtype=torch.float64)
    assert made == pytest.approx(float(found.weights() @ i), rel=1e-5)
    assert made == pytest.approx(float(Power(0.2).weights(960) @ i), rel=1e-3)


@pytest.mark.filterwarnings("ignore:.*beyond what they support")
def test_a_block_changes_no_bit_and_buffers_are_those_next_to_the_step(tmp_path):
    walk(100, tmp_path, 10, size=7)
    stored = stored_in(tmp_path)
    found = fit(Power(0.08), 73, [(s.step, s.length) for s in stored if s.step <= 80])
    used = [s for s in stored if s.step <= 80]
    whole = reconstruct(found, used)
    for block in (1, 4, 9, 20):
        small = reconstruct(found, used, block)
        assert all(torch.equal(small[k], whole[k]) for k in whole)
    assert int(whole["count"]) == 70


@pytest.mark.parametrize(("dtype", "digits"), [("float16", 11), ("bfloat16", 8)])
def test_half_precision_costs_its_rounding_times_the_gain(tmp_path, dtype, digits):
    walk(300, tmp_path / "a", 30)
    walk(300, tmp_path / "b", 30, dtype=dtype)
    exact, half = stored_in(tmp_path / "a"), stored_in(tmp_path / "b")
    found = fit(Power(0.12), 300, [(s.step, s.length) for s in exact])
    one, other = reconstruct(found, exact)["matrix"], reconstruct(found, half)["matrix"]
    assert other.dtype == torch.float32
    error = float((one - other).abs().max())
    assert 0 < error <= found.gain * 2.0**-digits * max(float(reconstruct(
        fit(Power(s.length), s.step, found.stored), exact)["matrix"].abs().max()) for s in exact)  # fmt: skip


def test_a_length_out_of_reach_is_warned_of_and_one_within_is_not():
    stored = [(t, length) for t in range(500, 5001, 500) for length in (0.05, 0.1)]
    with pytest.warns(
        UserWarning, match=r"Power\(length=0.01\) at step 5000 .* residual of 0\.\d+ from 20 .* 0.05, 0.1"
    ):
        fit(Power(0.01), 5000, stored)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit(Power(0.15), 5000, stored).residual < 0.03


@pytest.mark.filterwarnings("ignore:.*beyond what they support")
def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="nothing is stored"):
        fit(Power(0.1), 10, [])
    for step in (0, 11):
        with pytest.raises(ValueError, match=rf"step is {step}; allowed: 1 to 10"):
            fit(Power(0.1), step, [(10, 0.1)])
    walk(20, tmp_path / "a", 10, lengths=(0.1,))
    walk(20, tmp_path / "b", 10, lengths=(0.1,), size=5)
    a, b = stored_in(tmp_path / "a"), stored_in(tmp_path / "b")
    found = fit(Power(0.12), 20, [(s.step, s.length) for s in a])
    with pytest.raises(ValueError, match="other averages than those"):
        reconstruct(found, a[:1])
    with pytest.raises(ValueError, match="not of the same network: matrix has shape"):
        reconstruct(found, [b[0], a[1]])
    assert reconstruct(found, [Stored(s.step, s.length, s.path) for s in a])["count"] == 20


def test_names_parse_back():
    for length in (0.05, 0.1, 0.123, 1e-5, 0.3, 1 / 3 - 0.1):
        assert length_in(name_of(length)) == length
    for other in ("ema", "model", "ema-", "ema-0.05/..", "ema-nan", "ema-5", "ema-0.05.safetensors"):
        assert length_in(other) is None


@pytest.mark.parametrize(
    ("count", "wanted"),
    [
        (5, {0.02: 0.31, 0.03: 0.15, 0.07: 0.027, 0.12: 0.029, 0.2: 0.16, 0.25: 0.31}),
        (20, {0.02: 0.087, 0.03: 0.026, 0.07: 0.0025, 0.12: 0.0022, 0.2: 0.015, 0.25: 0.060}),
        (100, {0.02: 0.0045, 0.03: 0.0012, 0.07: 0.00010, 0.12: 0.000091, 0.2: 0.00072, 0.25: 0.0085}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*beyond what they support")
def test_the_residuals_that_the_readme_names(count, wanted):
    stored = [(1000 * i, length) for i in range(1, count + 1) for length in (0.05, 0.1)]
    for length, residual in wanted.items():
        assert fit(Power(length), 1000 * count, stored).residual == pytest.approx(residual, rel=0.04)

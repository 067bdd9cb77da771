"""Levels and schedules: the laws of every one: falling log-SNR, exact inverses, both ends, densities, floats and tensors alike."""

import itertools
import math

import pytest
import torch
from oracles import SCHEDULES

from sfumato.schedules import (
    Cosine,
    CosineGamma,
    CosineShifted,
    InputScaled,
    Laplace,
    Level,
    LinearBeta,
    LinearGamma,
    RectifiedFlow,
    ScaledLinearBeta,
    Sigmoid,
    Truncated,
    VarianceExploding,
    ZeroTerminalSNR,
    log_snr_density,
)

EVERY = pytest.mark.parametrize("schedule", SCHEDULES, ids=str)


@pytest.mark.parametrize(
    ("t", "abar"),
    [(0.1, 0.972092737), (0.25, 0.847012161), (0.5, 0.493843590), (0.75, 0.144272102), (0.9, 0.024091724)],
)
def test_cosine_golden(t, abar):
    assert Cosine()(t).alpha ** 2 == pytest.approx(abar, abs=5e-10)


@pytest.mark.parametrize(
    ("t", "abar"), [(0.001, 0.99989006), (0.25, 0.52367972), (0.5, 0.07906381), (0.75, 0.00344141), (1.0, 4.31857e-05)]
)
def test_linear_beta_golden(t, abar):
    assert LinearBeta()(t).alpha ** 2 == pytest.approx(abar, rel=2e-5 if t > 0.9 else 1e-5, abs=1e-8)


@pytest.mark.parametrize(("t", "log_snr"), [(0.1, 4.394449), (0.25, 2.197225), (0.5, 0.0)])
def test_rectified_flow_golden(t, log_snr):
    assert RectifiedFlow()(t).log_snr == pytest.approx(log_snr, abs=1e-6)


def test_zero_terminal_golden_table():
    """Lin et al.'s algorithm on the Stable Diffusion table, through the continuous wrapper at the same alphas."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0).sqrt()

    class Sd:  # the table read at t = i / 999: all that the wrapper asks for are its levels
        def __call__(self, t):
            a = float(alphas[round(float(t) * 999)])
            return Level(t, a, math.sqrt(1 - a * a))

        def at_log_snr(self, log_snr):
            raise AssertionError("not needed")

    rescaled = ZeroTerminalSNR(Sd())
    golden = {
        0: 0.99915,
        1: 0.9982334461,
        99: 0.8880858948,
        249: 0.6541890065,
        499: 0.2423591666,
        749: 0.0331714828,
        998: 1.968e-07,
        999: 0.0,
    }
    for i, abar in golden.items():
        assert rescaled(i / 999).alpha ** 2 == pytest.approx(abar, abs=6e-11 if i != 998 else 1e-10)
    assert rescaled(499 / 999).log_snr == pytest.approx(-1.139789, abs=1e-6)


def test_zero_terminal_keeps_the_clean_end_and_is_idempotent():
    once = ZeroTerminalSNR(LinearBeta())
    twice = ZeroTerminalSNR(once)
    for t in (0.0, 1e-6, 0.1, 0.5, 0.9, 0.999, 1.0):
        assert twice(t).alpha == pytest.approx(once(t).alpha, abs=1e-15)
        assert twice(t).sigma == pytest.approx(once(t).sigma, abs=1e-15)
    assert once(0.0) == Level(0.0, 1.0, 0.0)
    assert once(1.0).alpha == 0.0


def test_zero_terminal_refuses_a_path_that_is_not_variance_preserving():
    with pytest.raises(ValueError, match=r"variance-preserving"):
        ZeroTerminalSNR(RectifiedFlow())


@EVERY
def test_log_snr_falls(schedule):
    readings = [schedule(i / 1000).log_snr for i in range(1001)]
    assert all(a > b for a, b in itertools.pairwise(readings))


# a Cauchy schedule is data to float64 at smaller t than these
TIMES = (1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 0.999999)


def times_of(schedule):
    return [t for t in TIMES if abs(schedule(t).log_snr) < 600]


@EVERY
def test_inverse_of_inverse(schedule):
    assert len(times_of(schedule)) >= 7
    for t in times_of(schedule):
        level = schedule(t)
        back = schedule.at_log_snr(level.log_snr)
        # t carries the round-off of log-SNR, which is absolute near 0 and relative beyond 1
        slack = 1e-12 + 4e-15 * max(1.0, abs(level.log_snr)) * float(log_snr_density(schedule, tensor(level.log_snr)))
        assert back.t == pytest.approx(t, abs=slack)
        assert back.log_snr == pytest.approx(level.log_snr, rel=2e-14, abs=2e-14)
        assert back.alpha == pytest.approx(level.alpha, rel=1e-13 + 2e-15 * abs(level.log_snr))
        assert back.sigma == pytest.approx(level.sigma, rel=1e-13 + 2e-15 * abs(level.log_snr))


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


@EVERY
def test_ends(schedule):
    for t in (0.0, 1.0):
        level = schedule(t)
        back = schedule.at_log_snr(level.log_snr)
        assert back.t == pytest.approx(t, abs=1e-13)
        assert (back.alpha, back.sigma) == pytest.approx((level.alpha, level.sigma), abs=1e-13)
        # exact zeros, not small numbers
        assert (level.alpha == 0) == (level.log_snr == -math.inf)
        assert (level.sigma == 0) == (level.log_snr == math.inf)


@EVERY
def test_data_and_noise_are_reached_by_their_log_snr(schedule):
    data = schedule.at_log_snr(math.inf)
    assert (data.alpha > 0, data.sigma) == (True, 0.0)
    if schedule(1.0).alpha == 0:
        noise = schedule.at_log_snr(-math.inf)
        assert noise.t == pytest.approx(1.0, abs=1e-15)
        assert (noise.alpha, noise.sigma > 0) == (0.0, True)


@EVERY
def test_tensors_agree_with_floats(schedule):
    t = torch.tensor([0.0, 1e-3, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
    level = schedule(t)
    for i, each in enumerate(t.tolist()):
        one = schedule(each)
        assert float((level.alpha + 0 * t)[i]) == pytest.approx(one.alpha, rel=1e-13, abs=1e-300)
        assert float((level.sigma + 0 * t)[i]) == pytest.approx(one.sigma, rel=1e-13, abs=1e-300)
        assert float(level.log_snr[i]) == pytest.approx(one.log_snr, rel=1e-12, abs=1e-13)
    inner = level.log_snr[1:-1]
    assert torch.allclose(schedule.at_log_snr(inner).t, t[1:-1], rtol=0, atol=1e-12)
    assert all(v.dtype == torch.float64 for v in schedule.at_log_snr(inner) if isinstance(v, torch.Tensor))


@EVERY
def test_density_is_minus_dt_by_d_log_snr(schedule):
    """Exact derivative against central differences, and its integral against t."""
    low, high = max(float(schedule(0.98).log_snr), -30.0), min(float(schedule(0.02).log_snr), 30.0)
    at = torch.linspace(low, high, 40001, dtype=torch.float64)
    density = log_snr_density(schedule, at)
    assert float(density.min()) >= 0
    h = 1e-6
    off = at[20:-20:997] + 1.3e-5 * (high - low)  # away from the knots of short tables
    slope = (schedule.at_log_snr(off - h).t - schedule.at_log_snr(off + h).t) / (2 * h)
    exact = log_snr_density(schedule, off)
    assert torch.allclose(slope, exact, rtol=2e-4, atol=1e-7)
    area = torch.trapezoid(density, at)
    assert float(area) == pytest.approx(float(schedule.at_log_snr(low).t - schedule.at_log_snr(high).t), rel=2e-4)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_ratio_of_tensors_is_never_below_zero(schedule):
    """An exact zero is +0: sigma / -0 would be -inf."""
    level = schedule(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert bool((level.ratio >= 0).all())


@pytest.mark.parametrize(
    "schedule",
    [
        s
        for s in SCHEDULES
        if not isinstance(s, RectifiedFlow | VarianceExploding | InputScaled)
        and "RectifiedFlow" not in str(s)
        and "InputScaled" not in str(s)
        and getattr(s, "path", "preserving") == "preserving"
    ],
    ids=str,
)
def test_variance_preserving(schedule):
    for i in range(101):
        level = schedule(i / 100)
        assert level.alpha**2 + level.sigma**2 == pytest.approx(1.0, abs=1e-15)


def test_limits_of_a_level_raise_nothing():
    noise, data = Level(1.0, 0.0, 1.0), Level(0.0, 1.0, 0.0)
    assert (noise.log_snr, noise.half_log_snr, noise.ratio) == (-math.inf, -math.inf, math.inf)
    assert (data.log_snr, data.half_log_snr, data.ratio) == (math.inf, math.inf, 0.0)
    assert Level(0.5, 0.6, 0.8).log_snr == pytest.approx(2 * math.log(0.75))
    assert noise.finite().log_snr == pytest.approx(-40)
    assert data.finite().log_snr == pytest.approx(40)


def test_a_level_multiplies_a_batch():
    x = torch.ones(3, 2, 4, 4, dtype=torch.float64)
    per_sample = Level(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)).like(x)
    assert torch.equal((per_sample.alpha * x)[:, 0, 0, 0], torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    element_wise = Level(0.0, torch.rand(3, 1, 4, 4), 1.0).like(x)
    assert (element_wise.alpha * x).shape == x.shape
    with pytest.raises(ValueError, match=r"one per sample \(3,\)"):
        Level(0.0, torch.ones(2), 1.0).like(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cosine(s=1.5), "Cosine.s is 1.5"),
        (lambda: LinearBeta(2.0, 1.0), "0 < low <= high"),
        (lambda: Truncated(Cosine(), 3.0, 2.0), "min < max"),
        (lambda: Truncated(LinearBeta(), log_snr_min=-20.0), "outside LinearBeta"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@EVERY
def test_density_is_positive_and_smooth_to_the_ends(schedule):
    """Towards an infinite end it falls by a factor e per two units of log-SNR at most, with no hole, sign or nan on the way."""
    low, high = max(float(schedule(1.0).log_snr), -40.0), min(float(schedule(0.0).log_snr), 40.0)
    at = torch.linspace(low, high, 20001, dtype=torch.float64)
    density = log_snr_density(schedule, at)
    assert torch.isfinite(density).all()
    assert float(density.min()) > 0
    assert torch.equal(log_snr_density(schedule, tensor([-math.inf, math.inf])), tensor([0.0, 0.0]))
    with torch.inference_mode():
        assert float((log_snr_density(schedule, at) - density).abs().max()) == 0
    if "Table" not in str(schedule):
        # a jump only where a wrapper keeps the piece below a table's first entry
        jumps = (density[1:].log() - density[:-1].log()).abs()
        assert float(jumps.max()) < 0.05 * max(1.0, 2e-3 / float(at[1] - at[0]))
    if math.isfinite(schedule(1.0).log_snr):
        assert float(log_snr_density(schedule, tensor(float(schedule(1.0).log_snr) - 1.0))) == 0


def test_densities_keep_their_digits_to_the_ends():
    """Against forty-digit arithmetic: the slope of the closed inverse, at log-SNR where t differs from its end by 1e-16."""
    from mpmath import acos, diff, exp, log, mp, mpf, pi, sqrt

    mp.dps = 60

    def signal(v):
        return 1 / (1 + exp(-v))

    def sigmoid_time(v):
        y = signal(3) - signal(v) * (signal(3) - signal(-3))
        return (log(y / (1 - y)) + 3) / 6

    def gamma_time(v):
        start = mpf(0.2)
        return (acos((signal(v) * mp.cos(start * pi / 2) ** 4) ** (mpf(1) / 4)) * 2 / pi - start) / (1 - start)

    def cosine_time(v):
        s = mpf(0.008)
        top = mp.cos(s / (1 + s) * pi / 2)
        return acos(top * sqrt(signal(v))) * 2 / pi * (1 + s) - s

    def beta_time(v):
        low, high, integral = mpf(0.1), mpf(20), -log(signal(v))
        return (-low + sqrt(low**2 + 2 * (high - low) * integral)) / (high - low)

    exact = {
        Sigmoid(): sigmoid_time, CosineGamma(0.2, 1.0, 2.0): gamma_time, Cosine(): cosine_time, LinearBeta(): beta_time,
        LinearGamma(): lambda v: 1 - signal(v),
    }  # fmt: skip
    for schedule, time in exact.items():
        for value in (-36.0, -25.0, -9.0, 0.3, 12.0, 25.0, 36.0):
            if value < float(schedule(1.0).log_snr):
                continue
            wanted = float(-diff(time, mpf(value)))
            assert float(log_snr_density(schedule, tensor(value))) == pytest.approx(wanted, rel=1e-9), (schedule, value)


@EVERY
def test_gradients_in_t_are_finite(schedule):
    t = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64, requires_grad=True)
    level = schedule(t)
    total = sum(v.sum() for v in (level.alpha, level.sigma) if isinstance(v, torch.Tensor))
    (slope,) = torch.autograd.grad(total, t)
    assert torch.isfinite(slope).all()


def test_the_density_at_a_kink_is_that_of_its_sides():
    assert log_snr_density(Laplace(), tensor([-1e-9, 0.0, 1e-9])).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_newton_of_the_interpolated_cosine_has_steps_enough():
    """To round-off at the limit of the allowed slopes, both ways."""
    for schedule in (
        CosineShifted(64.0, 64.0, 1024.0),
        CosineShifted(64.0, 1024.0, 64.0),
        CosineShifted(8.0, 1.0, 16.0),
    ):
        t = torch.linspace(1e-4, 1 - 1e-4, 2001, dtype=torch.float64)
        assert float((schedule.at_log_snr(schedule(t).log_snr).t - t).abs().max()) < 1e-14


def test_zero_is_zero_in_float32_too():
    for schedule in (ZeroTerminalSNR(LinearBeta()), Cosine(), Sigmoid()):
        assert float(schedule(torch.tensor([1.0])).alpha) == 0.0


def test_nan_stays_nan():
    for schedule in (LinearBeta(), ScaledLinearBeta()):
        assert math.isnan(float(schedule.at_log_snr(tensor([math.nan])).t))
        assert schedule.at_log_snr(-math.inf).t == float(schedule.at_log_snr(tensor([-math.inf])).t) == math.inf

"""Levels and schedules: golden values, exact inverses, both ends, floats and tensors alike."""

import itertools
import math

import pytest
import torch

from sfumato.schedules import Cosine, Level, LinearBeta, RectifiedFlow, Truncated, ZeroTerminalSNR

SCHEDULES = [
    Cosine(),
    Cosine(s=0.0),
    LinearBeta(),
    RectifiedFlow(),
    ZeroTerminalSNR(LinearBeta()),
    ZeroTerminalSNR(LinearBeta(0.5, 8.0)),
    Truncated(Cosine(), log_snr_min=-20.0),
    Truncated(RectifiedFlow(), log_snr_min=-12.0, log_snr_max=9.0),
]
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


@EVERY
def test_inverse_of_inverse(schedule):
    for t in (1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 0.999999):
        level = schedule(t)
        back = schedule.at_log_snr(level.log_snr)
        assert back.t == pytest.approx(t, abs=1e-12)
        assert back.alpha == pytest.approx(level.alpha, rel=1e-13)
        assert back.sigma == pytest.approx(level.sigma, rel=1e-13)


@EVERY
def test_ends(schedule):
    for t in (0.0, 1.0):
        level = schedule(t)
        back = schedule.at_log_snr(level.log_snr)
        assert back.t == pytest.approx(t, abs=1e-13)
        assert (back.alpha, back.sigma) == pytest.approx((level.alpha, level.sigma), abs=1e-13)


@EVERY
def test_tensors_agree_with_floats(schedule):
    t = torch.tensor([0.0, 1e-5, 0.2, 0.5, 0.8, 1.0], dtype=torch.float64)
    level = schedule(t)
    for i, each in enumerate(t.tolist()):
        one = schedule(each)
        assert float((level.alpha + 0 * t)[i]) == pytest.approx(one.alpha, rel=1e-14, abs=1e-300)
        assert float((level.sigma + 0 * t)[i]) == pytest.approx(one.sigma, rel=1e-14, abs=1e-300)
        assert float(level.log_snr[i]) == pytest.approx(one.log_snr, rel=1e-12)
    inner = level.log_snr[1:-1]
    assert torch.allclose(schedule.at_log_snr(inner).t, t[1:-1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), ZeroTerminalSNR(LinearBeta())], ids=str)
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

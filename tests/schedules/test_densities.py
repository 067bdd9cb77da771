"""Densities of training time: what they draw, against closed forms."""

import math

import pytest
import torch

from sfumato.schedules import (
    BetaTable,
    Cauchy,
    Cosine,
    CosineGamma,
    Laplace,
    LinearBeta,
    LogitNormal,
    LogNormal,
    LogSNRImportance,
    RectifiedFlow,
    ScaledLinearBeta,
    Shifted,
    Truncated,
    Uniform,
    UniformEntries,
    VarianceExploding,
    ZeroTerminalSNR,
    log_snr_density,
)

N = 100_000
U = (torch.arange(N, dtype=torch.float64) + 0.5) / N


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), RectifiedFlow()], ids=str)
def test_uniform_induces_the_schedules_own_density(schedule):
    """p(log-SNR) = -dt / d log-SNR: the share of draws below a log-SNR is 1 - t of it."""
    log_snr = Uniform()(U, schedule).level.log_snr
    for t in (0.1, 0.3, 0.5, 0.8):
        assert float((log_snr < schedule(t).log_snr).double().mean()) == pytest.approx(1 - t, abs=2 / N)


@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=str)
def test_lognormal_quantiles_of_edm(schedule):
    ratios = LogNormal(-1.2, 1.2)(U, schedule).level.ratio
    for q, g in ((0.05, 0.041843), (0.25, 0.134071), (0.5, 0.301194), (0.75, 0.676642), (0.95, 2.168042)):
        assert float(ratios.quantile(q)) == pytest.approx(g, rel=1e-4)


def test_lognormal_in_log_snr_is_normal():
    log_snr = LogNormal(-0.4, 1.0)(U, RectifiedFlow()).level.log_snr
    assert float(log_snr.mean()) == pytest.approx(0.8, abs=1e-3)
    assert float(log_snr.std()) == pytest.approx(2.0, abs=1e-3)


def test_lognormal_stays_on_the_schedule():
    """LinearBeta ends at log-SNR -10.05: what lies beyond is not drawn, and gathers nowhere; the rest keeps its shape."""
    level = LogNormal(3.0, 3.0)(U, LinearBeta()).level
    assert float(level.log_snr.min()) == pytest.approx(float(LinearBeta()(1.0).log_snr), abs=1e-3)
    assert len(level.log_snr.unique()) == N
    shares = [float((level.log_snr < v).double().mean()) for v in (-6.0, 0.0)]
    # P(low < x < v) / P(low < x), of N(-6, 36)
    cut = [0.5 * math.erfc(-(v + 6.0) / 6.0 / math.sqrt(2)) for v in (-10.049957, -6.0, 0.0)]
    assert shares == pytest.approx([(c - cut[0]) / (1 - cut[0]) for c in cut[1:]], abs=1e-3)
    assert 0 <= float(level.t.min()) <= float(level.t.max()) <= 1 + 1e-12
    assert math.isfinite(float(level.log_snr.max()))


def test_levels_are_float64_and_weights_are_one():
    drawn = LogNormal()(U[:8], Cosine())
    assert drawn.level.alpha.dtype == torch.float64
    assert drawn.weight == 1.0


@pytest.mark.parametrize("mean_std", [(0.0, 1.0), (-1.2, 1.2)])
def test_logit_normal_is_log_normal_on_the_straight_path(mean_std):
    a, b = (density(*mean_std)(U, RectifiedFlow()).level for density in (LogitNormal, LogNormal))
    inside = b.log_snr.abs() < 19.9
    assert torch.allclose(a.log_snr[inside], b.log_snr[inside], atol=1e-10)
    assert float(a.log_snr.mean()) == pytest.approx(-2 * mean_std[0], abs=1e-3)
    assert float(a.log_snr.std()) == pytest.approx(2 * mean_std[1], rel=1e-3)


def test_logit_normal_golden_density_of_t():
    """pdf N(logit t) / (t (1 - t)), by counting draws."""
    t = LogitNormal()(U, RectifiedFlow()).level.t
    for at, density in ((0.1, 0.396575), (0.25, 1.163652), (0.5, 1.595769)):
        share = float(((t > at - 0.005) & (t < at + 0.005)).double().mean()) / 0.01
        assert share == pytest.approx(density, rel=5e-3)


def test_logit_normal_and_shift_is_that_of_sd3():
    shifted = LogitNormal()(U, Shifted(RectifiedFlow(), 3.0)).level
    t = LogitNormal()(U, RectifiedFlow()).level.t
    assert torch.allclose(shifted.sigma, 3 * t / (1 + 2 * t), atol=1e-12)


LIKES = [
    Laplace(),
    Laplace(1.0, 0.3),
    Cauchy(),
    Cosine(),
    CosineGamma(0.2, 1.0, 2.0),
    RectifiedFlow(),
    Shifted(Cosine(0.0), 2.0),
]


@pytest.mark.parametrize("like", LIKES, ids=str)
@pytest.mark.parametrize("schedule", [Cosine(), RectifiedFlow()], ids=str)
def test_importance_draws_the_density_of_the_other_schedule(like, schedule):
    """Kolmogorov-Smirnov distance of stratified draws to the closed distribution 1 - t(log_snr)."""
    drawn = LogSNRImportance(like)(U, schedule)
    log_snr = drawn.level.log_snr.sort().values
    first, last = (like.at_log_snr(v).t for v in (20.0, -20.0))  # the part within [-20, 20]
    cumulative = (last - like.at_log_snr(log_snr).t) / (last - first)
    distance = (cumulative - (torch.arange(N, dtype=torch.float64) + 0.5) / N).abs()
    assert float(distance.max()) < 1e-8
    assert len(log_snr.unique()) == N  # no atom at the edge
    assert drawn.weight == 1.0
    assert float(log_snr.abs().max()) <= 20 + 1e-9
    # on the model's own path
    at = schedule.at_log_snr(drawn.level.log_snr)
    assert torch.allclose(drawn.level.alpha, at.alpha, rtol=1e-9)


def test_drawing_like_a_schedule_is_training_on_it():
    """Equivalence of section A.3: the same levels as the schedule itself under uniform t."""
    inner = U[(U > 1e-8) & (U < 1 - 1e-8)]
    own, like = Uniform()(inner, Laplace()).level, LogSNRImportance(Laplace())(inner, Cosine()).level
    assert torch.allclose(own.log_snr, like.log_snr, atol=1e-7)
    assert torch.allclose(own.alpha, like.alpha, rtol=1e-7)


def test_unbiased_importance_leaves_the_expected_loss():
    """E_p[f w] = E_uniform[f] for a loss that is small where it hardly draws."""
    schedule = Cosine()
    loss = lambda level: torch.exp(-0.5 * (level.log_snr / 1.5) ** 2)  # noqa: E731
    truth = float(loss(Uniform()(U, schedule).level).mean())
    biased = LogSNRImportance(Laplace(0.5, 1.5))(U, schedule)
    unbiased = LogSNRImportance(Laplace(0.5, 1.5), unbiased=True)(U, schedule)
    assert float((loss(unbiased.level) * unbiased.weight).mean()) == pytest.approx(truth, rel=1e-3)
    assert abs(float(loss(biased.level).mean()) / truth - 1) > 0.1
    assert torch.allclose(
        unbiased.weight,
        log_snr_density(schedule, unbiased.level.log_snr) * 3 * torch.exp((unbiased.level.log_snr - 0.5).abs() / 1.5),
    )


@pytest.mark.parametrize("like", [Cosine(), Cauchy(), Laplace(0.0, 3.0), RectifiedFlow()], ids=str)
@pytest.mark.parametrize(
    "schedule", [LinearBeta(), BetaTable("scaled_linear"), VarianceExploding(), Cosine(), RectifiedFlow()], ids=str
)
def test_the_factors_of_unbiased_importance_average_to_one(like, schedule):
    """Where `like` reaches beyond the model's path, too: nothing gathers at its ends."""
    u = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    drawn = LogSNRImportance(like, unbiased=True)(u, schedule)
    within = 1.0 - float(
        schedule.at_log_snr(min(20.0, schedule(0.0).log_snr)).t
    )  # of uniform t, what lies in [-20, 20]
    assert float(drawn.weight.mean()) == pytest.approx(within, rel=4e-3)
    power = drawn.level.sigma**2 / (drawn.level.alpha**2 + drawn.level.sigma**2)
    plain = schedule(u)
    truth = float((plain.sigma**2 / (plain.alpha**2 + plain.sigma**2)).mean())
    assert float((power * drawn.weight).mean()) == pytest.approx(truth, rel=4e-3)


def test_unbiased_importance_refuses_what_it_can_not_make_up_for():
    with pytest.raises(ValueError, match="choose a `like` that covers it"):
        LogSNRImportance(ScaledLinearBeta(), unbiased=True)(U, LinearBeta())
    assert torch.isfinite(LogSNRImportance(ScaledLinearBeta())(U, LinearBeta()).level.log_snr).all()
    with pytest.raises(ValueError, match="no log-SNR in common"):
        LogSNRImportance(Truncated(Cosine(), log_snr_min=15.0))(U, Truncated(Cosine(), -15.0, 10.0))


def test_entries_are_drawn_equally_often():
    table = BetaTable("linear", 50)
    level = UniformEntries()(U, table).level
    index = (level.t * 50 - 1).round()
    assert torch.allclose(level.t * 50 - 1, index, atol=1e-9)
    assert torch.equal(torch.bincount(index.long(), minlength=50), torch.full((50,), N // 50))
    assert float(level.sigma.min()) == pytest.approx(table(1 / 50).sigma)
    assert UniformEntries(4)(torch.tensor([0.0, 0.26, 0.999, 1.0]), Cosine()).level.t.tolist() == [0.25, 0.5, 1.0, 1.0]
    assert float(UniformEntries()(U, ZeroTerminalSNR(table)).level.alpha.min()) == 0.0
    with pytest.raises(ValueError, match="Cosine is no table; give steps"):
        UniformEntries()(U, Cosine())


def test_strata_cover_the_density_evenly():
    """One draw per stratum: 64 draws never leave a sixteenth of the density empty; independent ones do."""
    generator = torch.Generator().manual_seed(0)
    u = (torch.arange(64) + torch.rand(64, generator=generator, dtype=torch.float64)) / 64
    t = Uniform()(u, Cosine()).level.t
    assert torch.bincount((t * 16).long(), minlength=16).tolist() == [4] * 16


@pytest.mark.parametrize(
    "make", [lambda: LogitNormal(0.0, 0.0), lambda: LogitNormal(math.nan), lambda: UniformEntries(0), lambda: LogNormal(0.0, -1.0)]
)  # fmt: skip
def test_refusals(make):
    with pytest.raises(ValueError, match="allowed"):
        make()


def test_refusal():
    with pytest.raises(ValueError, match=r"std=0.0\); allowed"):
        LogNormal(0.0, 0.0)

"""Densities of training time: what they draw, against closed forms."""

import math

import pytest
import torch

from sfumato.schedules import Cosine, LinearBeta, LogNormal, RectifiedFlow, Uniform

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
    """LinearBeta ends at log-SNR -10.05: the tail is cut there, with t still in [0, 1]."""
    level = LogNormal(3.0, 3.0)(U, LinearBeta()).level
    assert float(level.log_snr.min()) == pytest.approx(float(LinearBeta()(1.0).log_snr), abs=1e-9)
    assert 0 <= float(level.t.min()) <= float(level.t.max()) <= 1 + 1e-12
    assert math.isfinite(float(level.log_snr.max()))


def test_levels_are_float64_and_weights_are_one():
    drawn = LogNormal()(U[:8], Cosine())
    assert drawn.level.alpha.dtype == torch.float64
    assert drawn.weight == 1.0


def test_refusal():
    with pytest.raises(ValueError, match=r"std=0.0\); allowed"):
        LogNormal(0.0, 0.0)

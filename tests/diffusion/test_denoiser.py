"""Denoiser, clocks and objective."""

import math

import pytest
import torch
from torch import nn

from sfumato.diffusion import Denoiser, LogSNRClock, TimeClock
from sfumato.diffusion.objective import Noised, Regression
from sfumato.samplers import DDIM, trajectory
from sfumato.schedules import (
    EDM,
    X0,
    Cosine,
    Eps,
    Flow,
    Level,
    LinearBeta,
    MinSNR,
    PairingError,
    RectifiedFlow,
    V,
    trailing,
)


class Recorder(nn.Module):
    """Answers with zeros, and remembers what it was asked."""

    def forward(self, x, time, labels=None):
        self.x, self.time, self.labels = x, time, labels
        return torch.zeros_like(x)


@pytest.mark.parametrize("row", [V(), X0(), Flow(), EDM(0.5)], ids=str)
def test_output_zero_means_what_the_row_says(row):
    """0 = a x0 + b eps with x = alpha x0 + sigma eps, at any level, the infinite ones included."""
    model = Denoiser(Recorder(), RectifiedFlow(), row, TimeClock())
    for t in (1.0, 0.7, 0.2):
        level, x = RectifiedFlow()(t), torch.randn(2, 1, 4, 4, dtype=torch.float64)
        p = model(x, level)
        a, b = row(level)
        assert torch.allclose(a * p.x0 + b * p.eps, torch.zeros_like(x), atol=1e-12)
        assert torch.allclose(level.alpha * p.x0 + level.sigma * p.eps, x, atol=1e-12)


def test_the_backbone_is_told_float32_time_of_the_batch():
    net = Recorder()
    model = Denoiser(net, RectifiedFlow(), V(), TimeClock(1000.0))
    x = torch.randn(3, 1, 4, 4)
    model(x, RectifiedFlow()(0.25))
    assert net.time.dtype == torch.float32
    assert net.time.tolist() == [250.0] * 3
    t = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    model(x, RectifiedFlow()(t), {"labels": torch.tensor([1, 2, 3])})
    assert net.time.tolist() == pytest.approx([100, 200, 300])
    assert net.labels.tolist() == [1, 2, 3]


def test_one_level_of_any_rank_is_that_of_all_samples():
    # guidance asks a batch of one twice, in two rows, at the level of the one
    net = Recorder()
    model = Denoiser(net, RectifiedFlow(), V(), TimeClock(1000.0))
    t = torch.full((1, 1, 1, 1), 0.25)
    model(torch.randn(2, 1, 4, 4), RectifiedFlow()(t))
    assert net.time.tolist() == [250.0] * 2


def test_edm_input_has_unit_variance():
    net = Recorder()
    model = Denoiser(net, RectifiedFlow(), EDM(0.5), LogSNRClock(-0.125))
    level = RectifiedFlow()(0.3)
    x0, eps = 0.5 * torch.randn(2000, 1, 4, 4), torch.randn(2000, 1, 4, 4)
    model(level.alpha * x0 + level.sigma * eps, level)
    assert float(net.x.std()) == pytest.approx(1.0, abs=0.01)
    assert float(net.time[0]) == pytest.approx(math.log(0.3 / 0.7) / 4, abs=1e-6)
    scaled = Denoiser(net, RectifiedFlow(), V(), TimeClock(), input_std=0.5)
    scaled(level.alpha * x0 + level.sigma * eps, level)
    assert float(net.x.std()) == pytest.approx(1.0, abs=0.01)


def test_clocks_agree_on_floats_and_tensors_and_are_finite_at_the_ends():
    for clock in (TimeClock(), LogSNRClock()):
        for t in (0.0, 0.3, 1.0):
            level = RectifiedFlow()(t)
            one = clock(level)
            many = clock(RectifiedFlow()(torch.tensor([t], dtype=torch.float64)))
            assert math.isfinite(one)
            assert float(many) == pytest.approx(one)


def test_eps_at_zero_snr_is_refused_when_the_parts_meet():
    with pytest.raises(PairingError, match=r"V \(v-prediction\)"):
        Denoiser(Recorder(), Cosine(), Eps(), TimeClock())
    model = Denoiser(Recorder(), LinearBeta(), Eps(), TimeClock())
    with pytest.raises(PairingError):
        model.check([Level(1.0, 0.0, 1.0)])


def test_x0_without_noise_is_refused_where_a_method_would_ask_there():
    """Downwards nothing is asked at the data; upwards the first step is."""
    model, x = Denoiser(Recorder(), RectifiedFlow(), X0(), TimeClock()), torch.zeros(1, 1, 4, 4)
    levels = trailing(RectifiedFlow(), 4)
    with torch.no_grad():
        *_, last = trajectory(DDIM(), model, levels, x)
    assert torch.equal(last.x, x)
    with pytest.raises(PairingError, match="X0 at no noise"):
        trajectory(DDIM(), model, levels[::-1], x)


def test_a_condition_must_name_arguments():
    model = Denoiser(Recorder(), RectifiedFlow(), V(), TimeClock())
    with pytest.raises(ValueError, match="allowed: a dict of the backbone's keyword arguments"):
        model(torch.zeros(1, 1, 4, 4), RectifiedFlow()(0.5), torch.tensor([1]))


class Belief(nn.Module):
    """A network that believes in a fixed x0, expressed in any row: the same belief, so the loss must be the same."""

    def __init__(self, row, level, x, believed):
        super().__init__()
        at = level.like(x)
        a, b = row(at)
        self.out = a * believed + b * (x - at.alpha * believed) / at.sigma

    def forward(self, x, time):
        return self.out


def test_one_belief_has_one_loss_in_every_row():
    x0, eps = torch.randn(6, 1, 4, 4, dtype=torch.float64), torch.randn(6, 1, 4, 4, dtype=torch.float64)
    level = Cosine()(torch.linspace(0.1, 0.9, 6, dtype=torch.float64))
    at = level.like(x0)
    x, believed = at.alpha * x0 + at.sigma * eps, x0 + 0.1
    found = []
    for row in (Eps(), X0(), V(), Flow(), EDM(0.5)):
        model = Denoiser(Belief(row, level, x, believed), LinearBeta(), row, TimeClock(), input_std=None)
        found.append(Regression()(model, None, MinSNR(5.0), Noised(x0, eps, level)).loss)
    wanted = (0.01 * torch.exp(level.log_snr).clamp(max=5.0)).float()
    for loss in found:
        assert torch.allclose(loss, wanted, rtol=1e-5)


def test_element_wise_levels_weigh_each_element():
    """Two halves of a picture at two levels: the loss is the mean of the losses of the halves."""
    x0, eps = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    model = Denoiser(Recorder(), LinearBeta(), V(), TimeClock())
    t = torch.full((3, 1, 4, 4), 0.2, dtype=torch.float64)
    t[..., 2:] = 0.7
    both = Regression()(model, None, MinSNR(), Noised(x0, eps, LinearBeta()(t))).loss
    halves = [
        Regression()(
            model,
            None,
            MinSNR(),
            Noised(x0[..., s], eps[..., s], LinearBeta()(torch.full((3,), u, dtype=torch.float64))),
        ).loss
        for s, u in ((slice(0, 2), 0.2), (slice(2, 4), 0.7))
    ]
    assert both.shape == (3,)
    assert torch.allclose(both, (halves[0] + halves[1]) / 2, rtol=1e-5)
    assert torch.allclose(
        Regression()(model, None, MinSNR(), Noised(x0, eps, LinearBeta()(0.2))).loss,
        Regression()(model, None, MinSNR(), Noised(x0, eps, LinearBeta()(t[:, 0, 0, 0]))).loss,
    )

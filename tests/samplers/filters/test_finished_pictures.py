"""Filters on finished pictures, and networks of diffusers that are asked again."""

import pytest
import torch
from diffusers import DDIMScheduler
from oracles import Mixture
from piped import LIKE, LIKE_LEVELS, Mean

from sfumato.diffusion import TimeClock
from sfumato.samplers import (
    DDIM,
    as_diffusers,
    network_denoise,
)
from sfumato.samplers.filters import (
    Judged,
    RenoiseProbe,
    judge_pictures,
)
from sfumato.samplers.network_time import network_time
from sfumato.schedules import EDM, Eps, LinearBeta, PairingError, Prediction, RectifiedFlow, V


def test_judges_of_finished_pictures():
    x0 = torch.tensor([[0.1, 0.3], [0.9, 0.7], [-0.5, 0.5]])
    seen = judge_pictures([Judged(Mean(), threshold=0.5), Judged(Mean(), least=0.1)], x0)
    assert torch.allclose(seen.verdicts[0].score, torch.tensor([0.2, 0.8, 0.0]))
    assert [v.keep.tolist() for v in seen.verdicts] == [[True, False, True], [True, True, False]]
    assert seen.keep.tolist() == [True, False, False]
    assert seen.verdicts[0].reasons == ["", "Judged: score 0.8 is above 0.5", ""]
    assert judge_pictures([], x0).keep.tolist() == [True] * 3


def test_the_probe_of_finished_pictures_is_its_formula():
    """E |D(alpha x + sigma eps) - x|^2 / dim of one Gaussian, in closed form over many noisings."""
    schedule, model = LinearBeta(), Mixture((1.0,), (0.0,), (0.5,))
    x0 = torch.tensor([[0.0] * 8, [0.5] * 8, [2.0] * 8], dtype=torch.float64)
    probe = RenoiseProbe(level=1.0, k=2000, path=schedule)
    found = judge_pictures(probe, x0, model).verdicts[0].score.double()
    at = schedule.at_log_snr(1.0)
    g = at.sigma / at.alpha
    c = 0.25 / (0.25 + g * g)  # the share of x / alpha that is kept
    wanted = ((c - 1) * x0).square().mean(1) + (c * g) ** 2
    assert torch.allclose(found, wanted, rtol=0.05)


@pytest.mark.parametrize(
    ("like", "row"),
    [(LIKE, Eps()), (DDIMScheduler(prediction_type="v_prediction"), V()), (as_diffusers(DDIM(), RectifiedFlow(), EDM(0.5)), EDM(0.5))],
    ids=["ddpm", "v", "edm"],
)  # fmt: skip
def test_a_network_is_asked_as_the_pipeline_asks_it(like, row):
    """At an entry the number and the bits of the scheduler's own course; between entries the time between."""
    told = []

    def network(x, t):
        told.append((x, t))
        return torch.tanh(x)

    denoise = network_denoise(network, like)
    scheduler = like if row == EDM(0.5) else as_diffusers(DDIM(), like=like)
    scheduler.set_timesteps(4)
    x = torch.randn(2, 1, 4, 4)
    for level, t in zip([a[0] for a in scheduler.asked], scheduler.timesteps, strict=True):
        p = denoise(x, level)
        fed, time = told[-1]
        assert torch.equal(fed, scheduler.scale_model_input(x, t))
        assert time.tolist() == [float(t)] * 2
        assert time.dtype == t.dtype
        assert torch.equal(p.x0, Prediction(x, level, torch.tanh(fed), row).x0)
        scheduler.step(torch.tanh(fed), t, x)
        x = scheduler.made().x
    between = scheduler.schedule.at_log_snr(1.2345)
    denoise(x, between)
    assert told[-1][1].tolist() == pytest.approx([network_time(scheduler.schedule, row)(between)] * 2)


def test_a_network_with_a_learned_variance_and_one_in_half_precision():
    denoise = network_denoise(lambda x, t: torch.cat([x, 2 * x], 1), LIKE, dtype=torch.float16)
    x, level = torch.randn(2, 1, 4, 4), LIKE_LEVELS[1]
    p = denoise(x, level)
    assert p.out.dtype == p.x0.dtype == torch.float32
    assert torch.equal(p.out, x.half().float())
    assert torch.equal(p.variance, 2 * x.half().float())
    with pytest.raises(ValueError, match="one answer per picture"):
        network_denoise(lambda x, t: torch.cat([x, x]), LIKE)(x, level)


def test_a_network_with_a_clock_of_its_own_and_levels_that_it_says_nothing_about():
    told = []

    def network(x, t):
        told.append(t.tolist())
        return x

    denoise = network_denoise(network, as_diffusers(DDIM(), LinearBeta(), clock=TimeClock(500)))
    x = torch.zeros(2, 3)
    denoise(x, LinearBeta()(0.5))
    denoise(x, LinearBeta()(0.333))
    assert told == [[250.0] * 2, pytest.approx([166.5] * 2)]
    with pytest.raises(PairingError):
        denoise(x, RectifiedFlow()(1.0))
    assert len(told) == 2

"""Schedulers of diffusers that step as ours do."""

import math
from dataclasses import dataclass

import diffusers
import pytest
import torch

from sfumato.diffusion import Denoiser, EntryClock, LogSNRClock, Model, TimeClock, UNet
from sfumato.diffusion.export.native import make_network
from sfumato.diffusion.export.parity import compare
from sfumato.diffusion.export.process import process_of
from sfumato.diffusion.export.table_process import betas_of
from sfumato.diffusion.export.unet import unet_native
from sfumato.samplers import DDIM, DDPM, GHVB, DPMSolverPP, Euler, State
from sfumato.schedules import (
    EDM,
    X0,
    Cosine,
    Eps,
    Exponential,
    Flow,
    Karras,
    LinearBeta,
    LogSNRUniform,
    Negative,
    Prediction,
    RectifiedFlow,
    Table,
    Trailing,
    V,
    VarianceExploding,
)  # fmt: skip
from sfumato.schedules.parts import in_short

EPS_LOG = LogSNRClock(-0.125)


def model(schedule, row, clock, sampler=None, grid=None, steps=5, classes=3, **rest):
    torch.manual_seed(0)
    net = UNet(1, 8, classes, 8, [1, 2], 1, [], groups=2, time_features=8, **rest)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.03 * torch.randn_like(p))
    denoiser = Denoiser(net, schedule, row, clock).eval()
    return Model(denoiser, (1, 8, 8), classes, sampler or DPMSolverPP(), grid or Trailing(), steps)


def measured(made):
    process = process_of(made)
    network = make_network(unet_native(made.denoiser.backbone, process.told, 1))
    return process, compare(made, network, getattr(diffusers, process.kind)(**process.config), process)


KARRAS = Karras(0.05, 60.0, 3.0)


@pytest.mark.parametrize(
    ("schedule", "row", "clock", "sampler", "grid", "kind", "near"),
    [
        (RectifiedFlow(), EDM(0.75), EPS_LOG, DPMSolverPP(), KARRAS, "EDMDPMSolverMultistepScheduler", 1e-5),
        (RectifiedFlow(), EDM(0.75), LogSNRClock(0.125), DDIM(), KARRAS, "EDMEulerScheduler", 1e-5),
        (Cosine(), EDM(0.5), EPS_LOG, DPMSolverPP(1), KARRAS, "EDMDPMSolverMultistepScheduler", 1e-5),
        (VarianceExploding(0.002, 80.0), Negative(EDM(0.5)), EPS_LOG, Euler(), Exponential(0.01, 50.0), "EDMEulerScheduler", 1e-5),
        (Cosine(), V(), EPS_LOG, DPMSolverPP(), LogSNRUniform(-7.0, 6.0), "EDMDPMSolverMultistepScheduler", 1e-5),
        # tables are float32 products there
        (LinearBeta(), Eps(), TimeClock(1000), DDIM(), Trailing(), "DDIMScheduler", 2e-4),
        (LinearBeta(), X0(), TimeClock(200), DPMSolverPP(), Trailing(), "DPMSolverMultistepScheduler", 2e-4),
        (LinearBeta(), V(), EntryClock(1000), Euler(), Trailing(), "DDIMScheduler", 2e-4),
        (Cosine(), V(), TimeClock(1000), DDIM(), Trailing(), "DDIMScheduler", 2e-4),
        (Cosine(), V(), TimeClock(1000), DPMSolverPP(), Trailing(), "DPMSolverMultistepScheduler", 2e-2),  # zero SNR is alpha 2^-12
        (RectifiedFlow(), Flow(), TimeClock(1000), Euler(), Trailing(), "FlowMatchEulerDiscreteScheduler", 1e-5),
    ],
)  # fmt: skip
def test_the_same_noise_becomes_the_same_picture(schedule, row, clock, sampler, grid, kind, near):
    process, parity = measured(model(schedule, row, clock, sampler, grid))
    assert process.kind == kind
    assert process.same
    assert not any("counterpart" in note for note in process.notes)
    assert parity.network < 1e-5
    assert parity.samples[0] < near
    assert parity.own == parity.samples


def test_a_table_of_few_entries_is_told_as_it_was():
    entries = [6.0 - 12.0 * i / 49 for i in range(50)]
    made = model(Table(entries), Eps(), TimeClock(1000), DDIM(), steps=10)
    process, parity = measured(made)
    assert process.config["num_train_timesteps"] == 1000
    assert parity.samples[0] < 2e-4


def test_time_scale_is_part_of_the_clock():
    made = model(RectifiedFlow(), Flow(), TimeClock(1.0), Euler(), time_scale=1000.0)
    process, parity = measured(made)
    assert process.config["num_train_timesteps"] == 1000
    assert parity.network < 1e-5
    assert parity.samples[0] < 1e-5


@pytest.mark.parametrize("sampler", [GHVB(3.8), DPMSolverPP(3), DDIM(0.5)])
def test_a_sampler_without_a_counterpart_is_said_not_to_have_one(sampler):
    process, parity = measured(model(LinearBeta(), Eps(), TimeClock(1000), sampler))
    assert not process.same
    assert process.notes == [
        f"the run's own sampler {in_short(sampler)} has no counterpart there: DDIMScheduler is written, which steps as DDIM(eta=0.0)"
    ]
    assert parity.samples[0] < 2e-4
    assert (parity.own is None) == bool(sampler.draws)
    assert parity.own is None or parity.own[0] > parity.samples[0]


def test_ancestral_steps_are_the_same():
    """One step of DDPM, with the same normals."""
    large = process_of(model(LinearBeta(), Eps(), TimeClock(1000), DDPM("large")))
    assert (large.sampler, large.same) == (DDPM("small"), False)  # theirs draws noise in the last step
    variance = "small"
    made = model(LinearBeta(), Eps(), TimeClock(1000), DDPM(variance), steps=10)
    process = process_of(made)
    assert measured(made)[1].samples is None
    scheduler = getattr(diffusers, process.kind)(**process.config)
    scheduler.set_timesteps(10)
    levels = Trailing()(LinearBeta(), 10)
    x, eps = torch.randn(2, 64, 1, 4, 4)
    for i in (0, 4, 8, 9):
        z = torch.randn(x.shape, generator=torch.manual_seed(i))
        state, _ = DDPM(variance).step(
            State(x), lambda x, level: Prediction(x, level, eps, Eps()), levels[i : i + 2], (z,)
        )
        theirs = scheduler.step(eps, scheduler.timesteps[i], x, generator=torch.manual_seed(i)).prev_sample
        assert torch.allclose(state.x, theirs, atol=3e-4)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("schedule", "row", "clock", "grid", "kind"),
    [
        (LinearBeta(), Eps(), TimeClock(1000), Trailing(), "DPMSolverMultistepScheduler"),
        (VarianceExploding(0.002, 80.0), EDM(0.5), EPS_LOG, KARRAS, "EDMDPMSolverMultistepScheduler"),
    ],
)
def test_steps_of_the_sde_are_the_same(schedule, row, clock, grid, kind, order):
    """With the same outputs and the same normals, from where ours were: the first of order 1, and the last, which draws none."""
    made = model(schedule, row, clock, DPMSolverPP(order, 1.0), grid)
    process = process_of(made)
    assert (process.kind, process.config["algorithm_type"], process.same) == (kind, "sde-dpmsolver++", True)
    assert process.config["solver_order"] == order
    scheduler = getattr(diffusers, kind)(**process.config)
    scheduler.set_timesteps(made.steps)
    levels = process.grid(schedule, made.steps)
    drawn = torch.Generator().manual_seed(7)
    state = State(float(levels[0].sigma) * torch.randn(2, 1, 4, 4, generator=drawn))
    for i in range(made.steps):
        out = torch.randn(state.x.shape, generator=drawn)
        z = torch.randn(out.shape, generator=torch.manual_seed(i))
        x = state.x
        state, _ = process.sampler.step(
            state, lambda x, level, out=out: Prediction(x, level, out, row), levels[max(0, i - 1) : i + 2], (z,)
        )
        theirs = scheduler.step(out, scheduler.timesteps[i], x, generator=torch.manual_seed(i)).prev_sample
        torch.testing.assert_close(state.x, theirs, atol=1e-4, rtol=1e-4)


def test_betas_multiply_to_the_path():
    for schedule in (LinearBeta(), Cosine()):
        levels = [schedule((i + 1) / 1000) for i in range(1000)]
        product = 1.0
        for beta, level in zip(betas_of(levels), levels, strict=True):
            product *= 1.0 - beta
            assert math.isclose(product, float(level.alpha) ** 2, rel_tol=1e-9, abs_tol=1e-15)


@dataclass(frozen=True)
class Odd:
    def __call__(self, level):
        return level.t


@pytest.mark.parametrize(
    ("schedule", "row", "clock", "words"),
    [
        (RectifiedFlow(), EDM(0.75), LogSNRClock(), "scale: -0.125"),
        (RectifiedFlow(), EDM(0.75), TimeClock(), "ln\\(sigma\\) / 4"),
        (LinearBeta(), Eps(), LogSNRClock(-0.125), "no scheduler of diffusers says that"),
        (LinearBeta(), Eps(), TimeClock(0.5), "whole number"),
        (RectifiedFlow(), Flow(), TimeClock(0.5), "whole number"),
        (RectifiedFlow(), Flow(), Odd(), "no scheduler of diffusers says that"),
        (VarianceExploding(0.01, 80.0), Eps(), TimeClock(), "no scheduler of diffusers says that"),
    ],
)
def test_what_no_scheduler_says_is_refused(schedule, row, clock, words):
    with pytest.raises(ValueError, match=words):
        process_of(model(schedule, row, clock))

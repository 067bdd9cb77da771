"""Our samplers as schedulers of diffusers: a pipeline's loop gives the bits of our own."""

import math
from dataclasses import dataclass

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

from sfumato.diffusion.clocks import LogSNRClock
from sfumato.guidance import CFG
from sfumato.samplers import (
    DDIM,
    DDPM,
    GHVB,
    PLMS,
    AdaptiveStep,
    Churn,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    GradientEstimation,
    HeavyBall,
    Heun,
    Langevin,
    PredictorCorrector,
    State,
    UniPC,
    as_diffusers,
    move,
    on_path,
    trajectory,
)
from sfumato.samplers.network_time import network_time
from sfumato.schedules import (
    EDM,
    X0,
    BetaTable,
    Eps,
    Flow,
    InputScaled,
    Karras,
    Leading,
    Linspace,
    Prediction,
    RectifiedFlow,
    Shifted,
    Trailing,
    V,
    VarianceExploding,
    ZeroTerminalSNR,
)  # fmt: skip

SD = BetaTable("scaled_linear")


@dataclass(frozen=True)
class Clamped:
    """A sampler that is not linear: it runs as it is written, two evaluations a step."""

    draws: int = 1

    def step(self, state, denoise, levels, z):
        *_, now, nxt = levels
        p = denoise(state.x, now)
        x = move(p, now, nxt, fresh=0.1 * nxt.sigma, z=z[0])
        if nxt.sigma:
            q = denoise(x.clamp(-3, 3), nxt)
            x = nxt.alpha * q.x0.clamp(-1, 1) + nxt.sigma * q.eps
        return State(x, (p.eps,)), p


SAMPLERS = [
    DDIM(),
    DDIM(eta=0.7),
    DDPM(),
    DDPM("large"),
    DDPM("learned"),
    DPMSolver2(),
    DPMSolver2(eta=1.0),
    DPMSolverPP(),
    DPMSolverPP(order=1),
    DPMSolverPP(order=3),
    DPMSolverPP(order=3, legacy=True),
    DPMSolverPP(order=2, eta=1.0, solver="heun"),
    DPMSolverPP2S(),
    DPMSolverPP2S(eta=0.5),
    Euler(),
    Euler(eta=1.0),
    GHVB(order=3.8),
    GHVB(order=1.5),
    GradientEstimation(),
    GradientEstimation(mu=0.5),
    HeavyBall(beta=0.8),
    HeavyBall(base=DPMSolverPP(), beta=0.9),
    Heun(),
    Churn(),
    Churn(Euler()),
    PLMS(),
    PLMS(variable=True),
    PLMS(warm_up="rk4"),
    PredictorCorrector(),
    PredictorCorrector(DPMSolverPP(), Langevin(rule="share", size=0.05, count=2)),
    PredictorCorrector(DDIM(eta=1.0), Langevin(rule="snr", size=0.1)),
    UniPC(),
    UniPC(order=3, variant="bh1"),
    Clamped(),
]


def network(x, t):
    """Something that depends on the sample, its neighbours and the time."""
    return torch.tanh(1.3 * x + 0.2 * x.roll(1, -1) + torch.as_tensor(t, dtype=x.dtype) / 2000) * 1.1


def learned(x, t):
    return torch.cat([network(x, t), torch.sin(x)], 1)


def noises(x, count, seed=3):
    """What a pipeline's generator gives, one tensor after the other."""
    g = torch.Generator().manual_seed(seed)
    drawn = {}

    def noise(step, draw):
        if (step, draw) not in drawn:
            drawn[step, draw] = randn_tensor(tuple(x.shape), generator=g, dtype=x.dtype)
        return drawn[step, draw]

    return noise


def drive(scheduler, x, net=network, start=0, seed=3):
    """A pipeline's loop."""
    g = torch.Generator().manual_seed(seed)
    for t in scheduler.timesteps[start:]:
        out = net(scheduler.scale_model_input(x, t), t)
        x = scheduler.step(out, t, x, generator=g, return_dict=False)[0]
    return x


def ours(sampler, schedule, row, levels, x, net=network, churned=False):
    time = network_time(schedule, row)
    asked = []

    def denoise(x, level):
        asked.append(level)
        scaled = x
        if row.input_std is not None:
            scaled = x / math.sqrt((row.input_std * level.alpha) ** 2 + level.sigma**2)
        out, *variance = net(scaled, torch.tensor(time(level), dtype=torch.float32)).split(x.shape[1], 1)
        return Prediction(x, level, out, row, *variance)

    walker = on_path(sampler, schedule)
    noise = noises(x, 0)
    if churned and walker.low <= levels[0].ratio <= walker.high:  # x is that after the churn of the first step
        path, top = schedule, schedule(1.0).ratio
        hat = path.at_log_snr(-2 * math.log(min(levels[0].ratio * (1 + walker.gamma), top)))
        x, drawn = x * levels[0].alpha / hat.alpha, noise

        def noise(step, draw):
            return drawn(step, draw) * (0 if (step, draw) == (0, 0) else 1)

    *_, last = trajectory(walker, denoise, levels, x, noise)
    return last.x, asked


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_a_pipelines_loop_gives_the_bits_of_the_trajectory(sampler, dtype):
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    net = learned if sampler == DDPM("learned") else network
    for schedule, row, grid in [
        (SD, Eps(), Trailing()),
        (SD, V(), Karras()),
        (SD, X0(), Leading(1)),
        (ZeroTerminalSNR(SD), V(), Linspace()),
    ]:
        scheduler = as_diffusers(sampler, schedule, row=row, grid=grid)
        with torch.no_grad():
            for _ in range(2):  # set_timesteps forgets all
                scheduler.set_timesteps(7)
                found = drive(scheduler, x, net)
            want, asked = ours(sampler, schedule, row, grid(schedule, 7), x, net, churned=isinstance(sampler, Churn))
        if isinstance(sampler, Churn):  # it begins at the x after its first noise, which takes a division
            assert torch.allclose(found, want, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-13)
        else:
            assert torch.equal(found, want)
        assert len(asked) == len(scheduler.timesteps)
        time = network_time(schedule, row)
        assert scheduler.timesteps.tolist() == pytest.approx([time(level) for level in asked], rel=1e-6)
        assert scheduler.step_index == len(asked)


def test_gradients_are_recorded_as_the_trajectory_records_them():
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    scheduler = as_diffusers(Heun(), SD)
    scheduler.set_timesteps(4)
    drive(scheduler, x).sum().backward()
    found, x.grad = x.grad.clone(), None
    ours(Heun(), SD, Eps(), Trailing()(SD, 4), x)[0].sum().backward()
    assert torch.equal(found, x.grad)


@pytest.mark.parametrize(
    ("schedule", "row"),
    [(Shifted(RectifiedFlow(), 3.0), Flow()), (VarianceExploding(), EDM(0.5)), (InputScaled(SD, 0.5), Eps())],
    ids=str,
)
@pytest.mark.parametrize("sampler", [DPMSolverPP(), Heun(), UniPC(), Euler(eta=1.0)], ids=str)
def test_other_paths(sampler, schedule, row):
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler = as_diffusers(sampler, schedule, row=row)
    scheduler.set_timesteps(6)
    levels = Trailing()(schedule, 6)
    x = scheduler.init_noise_sigma * x
    assert scheduler.init_noise_sigma == levels[0].sigma
    with torch.no_grad():
        want = ours(sampler, schedule, row, levels, x)[0]
        assert torch.equal(drive(scheduler, x), want if levels[-1].alpha == 1 else want / levels[-1].alpha)


def test_times_are_those_the_networks_know():
    """The index of the entry on a table; 1000 sigma for flow matching; log(sigma) / 4 for EDM: as diffusers' own classes say."""
    theirs = diffusers.DDIMScheduler(timestep_spacing="trailing", beta_schedule="scaled_linear")
    theirs.set_timesteps(20)
    mine = as_diffusers(DDIM(), like=theirs)
    mine.set_timesteps(20)
    assert mine.timesteps.tolist() == theirs.timesteps.tolist()
    assert mine.timesteps.dtype == torch.int64
    theirs = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, beta_schedule="scaled_linear")
    theirs.set_timesteps(20)
    mine = as_diffusers(Euler(), like=theirs, grid=Karras())
    mine.set_timesteps(20)
    # theirs come from float32 tables
    assert np.allclose(mine.timesteps, theirs.timesteps, atol=0.02)
    assert mine.timesteps.dtype == torch.float32
    assert not float(mine.timesteps[3]).is_integer()
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=np.linspace(1, 1 / 20, 20))
    mine = as_diffusers(Euler(), like=theirs)
    mine.set_timesteps(20)
    assert np.allclose(mine.timesteps, theirs.timesteps, rtol=1e-5)
    theirs = diffusers.EDMEulerScheduler()
    theirs.set_timesteps(20)
    mine = as_diffusers(Euler(), like=theirs, grid=Karras(0.002, 80.0))
    mine.set_timesteps(20)
    assert np.allclose(mine.timesteps, theirs.timesteps, rtol=1e-5, atol=1e-6)
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(
        mine.scale_model_input(x, mine.timesteps[0]), theirs.scale_model_input(x, theirs.timesteps[0]), rtol=1e-6
    )


def test_a_network_with_a_time_of_its_own():
    from sfumato.schedules import Cosine

    with pytest.raises(ValueError, match="clock"):
        as_diffusers(DDIM(), Cosine(), row="v_prediction")
    scheduler = as_diffusers(DDIM(), Cosine(), row="v_prediction", clock=LogSNRClock())
    scheduler.set_timesteps(5)
    levels = Trailing()(Cosine(), 5)[:-1]
    assert scheduler.timesteps.tolist() == pytest.approx([LogSNRClock()(level) for level in levels], rel=1e-6)


def test_what_depends_on_the_data_or_needs_branches_is_refused():
    with pytest.raises(ValueError, match=r"AdaptiveStep.*depends on the data"):
        as_diffusers(AdaptiveStep(), SD).set_timesteps(5)
    with pytest.raises(ValueError, match=r"PredictorCorrector\.rule .* no branches"):
        as_diffusers(PredictorCorrector(rule=CFG(3.0)), SD).set_timesteps(5)

    @dataclass(frozen=True)
    class Fickle:
        draws: int = 0

        def step(self, state, denoise, levels, z):
            p = denoise(state.x, levels[-2])
            if float(p.x0.mean()) > float(p.x0.abs().mean()) * 0 and levels[-1].sigma and float(p.x0[0, 0, 0, 0]) > 0:
                p = denoise(state.x, levels[-1])
            return State(move(p, *levels[-2:])), p

    with pytest.raises(ValueError, match=r"Fickle.*depends on the data"):
        as_diffusers(Fickle(), SD).set_timesteps(5)

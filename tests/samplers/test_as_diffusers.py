"""Our samplers as schedulers of diffusers: a pipeline's loop gives the bits of our own."""

import copy
import json
import math
import subprocess
import sys
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
from sfumato.samplers.diffusers_scheduler import SfumatoScheduler
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
    Table,
    Trailing,
    V,
    VarianceExploding,
    ZeroTerminalSNR,
)  # fmt: skip

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
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


def test_importing_samplers_does_not_import_diffusers():
    code = (
        "import sys\nfrom sfumato.samplers import as_diffusers, from_diffusers\n"
        "from_diffusers({'_class_name': 'EulerDiscreteScheduler'})\nprint('diffusers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_begin_index_starts_at_a_step_with_nothing_remembered(sampler, step):
    """The same as the trajectory along the levels from there; or a refusal, where the method would ask at other levels."""
    scheduler = as_diffusers(sampler, SD, row="v_prediction")
    scheduler.set_timesteps(6)
    index = scheduler._walk.starts[step]
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    net = learned if sampler == DDPM("learned") else network
    if isinstance(sampler, PLMS) and sampler.warm_up == "rk4":
        with pytest.raises(ValueError, match=r"begin_index .* other levels"):
            scheduler.set_begin_index(index)
        return
    scheduler.set_begin_index(index)
    assert scheduler.begin_index == index
    with torch.no_grad():
        found = drive(scheduler, x, net, start=index)
        levels = Trailing()(SD, 6)[step:]
        want, _ = ours(sampler, SD, V(), levels, x, net, churned=isinstance(sampler, Churn))
    assert torch.allclose(found, want, rtol=0, atol=1e-5) if isinstance(sampler, Churn) else torch.equal(found, want)


def test_order_and_the_middle_of_a_step():
    for sampler, order, count in [
        (Heun(), 2, 11),
        (DPMSolver2(), 2, 11),
        (UniPC(), 1, 6),
        (PLMS(warm_up="rk4"), 1, 15),
    ]:
        scheduler = as_diffusers(sampler, SD)
        assert scheduler.order == 1
        scheduler.set_timesteps(6)
        assert scheduler.order == order
        assert len(scheduler.timesteps) == count
    scheduler = as_diffusers(Heun(), SD)
    scheduler.set_timesteps(6)
    for index in (1, 11, -1, 2.5):
        with pytest.raises(ValueError, match=r"begin_index .* where a step begins"):
            scheduler.set_begin_index(index)
    # as img2img counts, with strength 0.5 of 6 steps
    scheduler.set_begin_index(3 * scheduler.order)
    # two evaluations share a timestep; the one that begins a step is meant
    scheduler.set_timesteps(6)
    assert scheduler.timesteps[1] == scheduler.timesteps[2]
    x = torch.zeros(1, 1, 2, 2)
    with torch.no_grad():
        scheduler.step(x, scheduler.timesteps[1], x)
    assert scheduler.step_index == 3


def test_noise_is_added_as_the_level_says():
    """By diffusers' own DDIM for entries; by index in a loop; by the level asked for, with Churn."""
    theirs = diffusers.DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler = as_diffusers(DPMSolverPP(), like=theirs)
    x, noise = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    times = torch.tensor([0, 417, 999])  # as in training: any entry, before set_timesteps
    for name in ("add_noise", "get_velocity"):
        found, want = getattr(scheduler, name)(x, noise, times), getattr(theirs, name)(x, noise, times)
        assert torch.allclose(found, want, atol=1e-6)
        assert torch.allclose(
            getattr(scheduler, name)(x, noise, times[1]), getattr(theirs, name)(x, noise, times[1:2]), atol=1e-6
        )
    with pytest.raises(ValueError, match="timesteps holds 1000"):
        scheduler.add_noise(x, noise, torch.tensor([1000]))
    scheduler.set_timesteps(10)
    scheduler.set_begin_index(4)
    levels = Trailing()(scheduler.schedule, 10)
    want = levels[4].alpha * x + levels[4].sigma * noise
    assert torch.allclose(scheduler.add_noise(x, noise, scheduler.timesteps[4:5]), want)
    with torch.no_grad():
        scheduler.step(x, scheduler.timesteps[4], x)
    want = levels[5].alpha * x + levels[5].sigma * noise
    assert torch.allclose(scheduler.add_noise(x, noise, scheduler.timesteps[5:6]), want)
    flow = as_diffusers(Euler(), RectifiedFlow(), row=Flow())
    with pytest.raises(ValueError, match="set_timesteps first"):
        flow.add_noise(x, noise, torch.tensor([500.0]))
    flow.set_timesteps(4)
    assert torch.allclose(flow.add_noise(x, noise, flow.timesteps[1:2]), 0.25 * x + 0.75 * noise)


@pytest.mark.parametrize("record", [False, True], ids=["table", "as written"])
@pytest.mark.parametrize(
    "sampler",
    [DDIM(), DPMSolverPP(order=3), UniPC(), GHVB(order=3.8), HeavyBall(base=DPMSolverPP(), beta=0.9)],
    ids=str,
)
def test_a_sample_that_was_changed_is_where_it_goes_on(sampler, record):
    """A callback, or inpainting, changes what a step returned: in its place or into a new tensor is the same."""
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    scheduler, ends = as_diffusers(sampler, SD), []
    for in_place in (True, False):
        scheduler.set_timesteps(6)
        at = x
        with torch.set_grad_enabled(record):
            for t in scheduler.timesteps:
                at = scheduler.step(network(at, t), t, at).prev_sample
                at = at.mul_(0.8).add_(0.1) if in_place else at * 0.8 + 0.1
        ends.append(at)
    levels, walker, at, memory = Trailing()(SD, 6), on_path(sampler, SD), x, ()
    time = network_time(SD, Eps())

    def denoise(x, level):
        return Prediction(x, level, network(x, time(level)), Eps())

    for i in range(6):
        (at, memory), _ = walker.step(State(at, memory), denoise, levels[: i + 2], ())
        at = at * 0.8 + 0.1
    for end in ends:
        assert torch.allclose(end, at, atol=1e-5)


def test_a_change_within_a_step_is_where_the_network_was_asked():
    """Heun's second answer was given at the changed x; its mean goes from the x that the step began with, as in diffusers."""
    theirs = diffusers.HeunDiscreteScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", use_karras_sigmas=True
    )
    mine = as_diffusers(Heun(), like=theirs, grid=Karras())
    for scheduler in (mine, theirs):
        scheduler.set_timesteps(6)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    z = x * float((theirs.sigmas[0] ** 2 + 1) ** 0.5)
    with torch.no_grad():
        for i, t in enumerate(mine.timesteps):
            out = network(x, t)
            x = mine.step(out, t, x).prev_sample * 0.9
            out = network(theirs.scale_model_input(z, theirs.timesteps[i]), t)
            z = theirs.step(out, theirs.timesteps[i], z).prev_sample * 0.9
    assert torch.allclose(x, z, atol=2e-5)


def test_prediction_of_the_data_is_shown():
    scheduler = as_diffusers(DPMSolverPP(), SD)
    scheduler.set_timesteps(5)
    x = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for t, level in zip(scheduler.timesteps, Trailing()(SD, 5), strict=False):
        out = network(x, t)
        want = (x - level.sigma * out) / level.alpha
        made = scheduler.step(out, t, x)
        assert torch.allclose(made.pred_original_sample, want, rtol=1e-4, atol=1e-5)
        x = made.prev_sample
    assert torch.allclose(x, made.pred_original_sample, atol=1e-4)  # it ends where the last two answers point
    scheduler.set_timesteps(1)
    pair = scheduler.step(out, scheduler.timesteps[0], x, return_dict=False)
    assert torch.equal(*pair)


CONFIGS = [
    (DPMSolverPP(order=3, eta=0.5), SD, Eps(), Trailing(), None),
    (PredictorCorrector(Heun(), Langevin("share", 0.1)), ZeroTerminalSNR(SD), V(), Linspace(), None),
    (UniPC(), Table([5.0, 0.0, -math.inf]), V(), Trailing(), None),
    (Churn(high=30.0), VarianceExploding(0.01, 50.0, math.inf), EDM(0.5), Karras(0.02, 40.0), LogSNRClock(-0.125)),
]


@pytest.mark.parametrize("parts", CONFIGS, ids=str)
def test_a_config_is_json_and_makes_the_same_scheduler(parts, tmp_path):
    sampler, schedule, row, grid, clock = parts
    scheduler = as_diffusers(sampler, schedule, row, grid, clock=clock)
    scheduler.save_pretrained(tmp_path)

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    json.loads((tmp_path / "scheduler_config.json").read_text(), parse_constant=refuse)
    for again in (
        SfumatoScheduler.from_pretrained(tmp_path),
        SfumatoScheduler.from_config(scheduler.config),
        copy.deepcopy(scheduler),
    ):
        assert (again.sampler, again.schedule, again.row, again.grid, again.clock) == parts
        assert {k: v for k, v in again.config.items() if k[0] != "_"} == {
            k: v for k, v in scheduler.config.items() if k[0] != "_"
        }
    assert scheduler.config.steps_offset == 1
    assert scheduler.config.clip_sample is False
    changed = SfumatoScheduler.from_config(scheduler.config, sampler=DDIM())
    assert (changed.sampler, changed.schedule) == (DDIM(), schedule)


def test_swapping_schedulers_keeps_the_path():
    """diffusers' from_config drops what was a default of the other class, and knows nothing of our schedules."""
    for theirs in (
        diffusers.EulerDiscreteScheduler(),
        diffusers.PNDMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        diffusers.DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction"),
    ):
        mine = as_diffusers(DPMSolverPP(), like=theirs)
        again = diffusers.DDIMScheduler.from_config(mine.config)
        assert torch.equal(again.alphas_cumprod, theirs.alphas_cumprod)
        assert again.config.prediction_type == theirs.config.prediction_type == mine.config.prediction_type
        assert as_diffusers(UniPC(), like=mine).schedule == mine.schedule
        assert SfumatoScheduler.from_config(theirs, sampler=UniPC()).schedule == mine.schedule
        with pytest.raises(ValueError, match="says nothing about a sampler"):
            SfumatoScheduler.from_config(theirs.config)
    for schedule in (SD, ZeroTerminalSNR(SD)):
        mine = as_diffusers(DPMSolverPP(), schedule, "v_prediction")
        again = diffusers.DDIMScheduler.from_config(mine.config)
        want = torch.tensor([schedule((i + 1) / 1000).alpha ** 2 for i in range(1000)])
        assert torch.allclose(again.alphas_cumprod, want, rtol=1e-4, atol=1e-7)
    assert len(mine) == 1000
    assert {c.__name__ for c in mine.compatibles} >= {"DDIMScheduler", "EulerDiscreteScheduler"}


def test_a_folder_does_not_run_code():
    scheduler = as_diffusers(DDIM(), SD)
    config = {**scheduler.config, "sampler": {"class_path": "os.path.Evil"}}
    with pytest.raises(ValueError, match="outside Sfumato"):
        SfumatoScheduler.from_config(config)


MISTAKES = [
    (lambda s: s.set_timesteps(0), "num_inference_steps is 0"),
    (lambda s: s.set_timesteps(-3), "num_inference_steps is -3"),
    (lambda s: s.set_timesteps(2.7), r"num_inference_steps is 2\.7"),
    (lambda s: s.set_timesteps(math.nan), "num_inference_steps is nan"),
    (lambda s: s.set_timesteps(True), "num_inference_steps is True"),
    (lambda s: s.set_timesteps(None), "num_inference_steps is None"),
    (lambda s: s.set_timesteps(1001), "1001"),
    (lambda s: as_diffusers(DDIM(), SD).step(X, 999, X), "before set_timesteps"),
    (lambda s: as_diffusers(DDIM(), SD).set_begin_index(0), "before set_timesteps"),
    (lambda s: s.step(X[:1], 999, X), r"model_output has shape \(1, 3, 4, 4\)"),
    (lambda s: s.step(X, 998, X), r"timestep is 998; allowed"),
    (lambda s: [s.step(X, 999, X), s.step(X, 999, X)], "timestep is 999, the next one is 799"),
    (lambda s: [s.step(X, 999, X), s.step(X[:1], 799, X[:1])], r"sample has shape \(1, 3, 4, 4\)"),
    (lambda s: [s.step(X, t, X) for t in [*s.timesteps, 199]], "after the last of 5 evaluations"),
    (lambda s: s.step(X.long(), 999, X.long()), "sample is torch.int64"),
    (lambda s: s.step(X, 999, X, eta=0.3), r"eta is 0\.3"),
    (lambda s: s.step(X, 999, X, [torch.Generator()] * 3), "generator is a list of 3, the batch has 2"),
    (lambda s: as_diffusers(DDIM, SD), "sampler is the class DDIM"),
    (lambda s: as_diffusers("DDIM", SD), "sampler is 'DDIM'"),
    (lambda s: as_diffusers(DDIM(), 3), "schedule is 3"),
    (lambda s: as_diffusers(DDIM(), SD, "eps"), "row is 'eps'; allowed: epsilon, sample"),
    (lambda s: as_diffusers(DDIM(), SD, grid=7), "grid is 7"),
    (lambda s: as_diffusers(DDIM()), "neither of schedule and like"),
    (lambda s: as_diffusers(DDIM(), SD, like=s), "both of schedule and like"),
    (lambda s: as_diffusers(DDIM(), like=3), "int is no scheduler"),
    (lambda s: as_diffusers(DDIM(), ZeroTerminalSNR(SD)).set_timesteps(5), "zero SNR"),
]
X = torch.zeros(2, 3, 4, 4)


@pytest.mark.parametrize(("mistake", "message"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_mistakes_are_named(mistake, message):
    scheduler = as_diffusers(DDIM(), SD)
    scheduler.set_timesteps(5)
    with pytest.raises(ValueError, match=message), torch.no_grad():
        mistake(scheduler)

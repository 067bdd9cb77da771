"""Parity with the schedulers of diffusers, on the exact denoiser of a mixture; and what they have wrong."""

import inspect
import math
import sys
import warnings
from unittest import mock

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from oracles import Mixture

from sfumato.samplers import (
    DDIM,
    DDPM,
    PLMS,
    Clipped,
    DPMSolverPP,
    Euler,
    Heun,
    State,
    UniPC,
    as_diffusers,
    from_diffusers,
    on_path,
    trajectory,
)
from sfumato.samplers.diffusers_options import OPTIONS
from sfumato.schedules import Karras, Leading, Level, Linspace, Prediction, Trailing, V

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
IN_SIGMA = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
)
MODEL = Mixture()


class Double:
    """torch, in which float32 is float64: what a scheduler's module is given, so that it doesn't round what it is fed."""

    float32 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


def make(name, **config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers, name)(**{**SD, **config})


def start(n=64):
    return torch.randn(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def noises(x, dtype=None, seed=7):
    g, drawn = torch.Generator().manual_seed(seed), {}

    def noise(step, draw):
        if (step, draw) not in drawn:
            drawn[step, draw] = randn_tensor(tuple(x.shape), generator=g, dtype=dtype or x.dtype).to(x.dtype)
        return drawn[step, draw]

    return noise


def output(row, level, x):
    p = MODEL(x, level)
    a, b = row(level)
    return a * p.x0 + b * p.eps


def theirs(scheduler, steps, x, row, levels, seed=7):
    """diffusers' own loop, from x on the variance-preserving path; the network is the exact mixture.

    Its float32 numbers give way to the float64 of our levels, after they have been compared, so that what differs is the method.
    """
    scheduler.set_timesteps(steps)
    with mock.patch.object(sys.modules[type(scheduler).__module__], "torch", Double()):
        return _theirs(scheduler, steps, x, row, levels, seed)


def _theirs(scheduler, steps, x, row, levels, seed):
    name = type(scheduler).__name__
    g = torch.Generator().manual_seed(seed)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        ratios = [float(level.ratio) for level in levels]
        if name == "HeunDiscreteScheduler":
            ratios = [ratios[0], *(r for r in ratios[1:-1] for _ in range(2)), ratios[-1]]
        ratios += ratios[-1:] * (len(sigmas) - len(ratios))  # their last step of no length
        assert torch.allclose(sigmas.double(), torch.tensor(ratios, dtype=torch.float64), rtol=2e-6)
        scheduler.sigmas = torch.tensor(ratios, dtype=torch.float64)
    else:
        for key in ("alphas_cumprod", "final_alpha_cumprod", "one"):
            if hasattr(scheduler, key):
                setattr(scheduler, key, getattr(scheduler, key).double())
    scaled = name in IN_SIGMA
    if scaled:
        x = x * float((1 + scheduler.sigmas[0] ** 2) ** 0.5)
    for i, t in enumerate(scheduler.timesteps):
        if sigmas is None:
            a = float(scheduler.alphas_cumprod[int(t)])
            level = Level(0.5, a**0.5, (1 - a) ** 0.5)
        else:
            s = float(scheduler.sigmas[i])
            level = Level(0.5, 1 / math.sqrt(1 + s * s), s / math.sqrt(1 + s * s))
        fed = scheduler.scale_model_input(x, t)
        kwargs = {"generator": g} if "generator" in inspect.signature(scheduler.step).parameters else {}
        x = scheduler.step(output(row, level, fed.double()), t, x, **kwargs).prev_sample.double()
    return x / float((1 + scheduler.sigmas[-1] ** 2) ** 0.5) if scaled else x


def ours(sampling, steps, x, dtype=None, row=None, seed=7):
    sampler, schedule, _, grid = sampling
    levels = grid(schedule, steps)

    def denoise(x, level):
        return Prediction(x, level, output(sampling.row, level, x), sampling.row)

    with torch.no_grad():
        *_, last = trajectory(on_path(sampler, schedule), denoise, levels, x, noises(x, dtype, seed))
    return last.x


def distance(a, b):
    return float((a - b).abs().max() / b.abs().max())


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_are_those_of_the_class(name):
    parameters = inspect.signature(getattr(diffusers, name).__init__).parameters
    assert {k: parameters[k].default for k in OPTIONS[name]} == OPTIONS[name]


SPACINGS = [
    {"timestep_spacing": "leading", "steps_offset": 0},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "linspace"},
    {"timestep_spacing": "trailing"},
]
BETWEEN = [{}, {"use_karras_sigmas": True}, {"use_exponential_sigmas": True}]
ENDS = {
    "EulerDiscreteScheduler": {"final_sigmas_type": "sigma_min"},
    "DPMSolverMultistepScheduler": {"final_sigmas_type": "sigma_min"},
    "UniPCMultistepScheduler": {"final_sigmas_type": "sigma_min"},
}
GRIDS = [
    (name, {**spacing, **between, **end})
    for name in OPTIONS
    for spacing in SPACINGS
    for between in (BETWEEN if "use_karras_sigmas" in OPTIONS[name] else BETWEEN[:1])
    for end in ([{}, ENDS[name]] if name in ENDS else [{}])
]
GRIDS += [
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0}),
    ("UniPCMultistepScheduler", {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0}),
    ("DPMSolverMultistepScheduler", {"use_lu_lambdas": True}),
]


@pytest.mark.parametrize(("name", "config"), GRIDS, ids=str)
def test_the_grid_is_theirs(name, config):
    """Levels (their float32) and times, whatever the number of steps."""
    scheduler = make(name, **config)
    sampling = from_diffusers(scheduler)
    for steps in (1, 4, 7, 10, 20, 50):
        # their trailing counts with arange of floats, theirs is a step too many or a rounding off where T / steps is not exact
        if config.get("timestep_spacing") == "trailing" and 1000 % steps:
            continue
        if (
            steps == 1
            and any("use_" in k for k in config)
            and name not in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
        ):
            continue
        mine = as_diffusers(DDIM(), sampling.schedule, sampling.row, sampling.grid)
        if steps < 7 and name == "PNDMScheduler":
            continue
        if steps == 1 and (config.get("timestep_spacing") == "linspace" or "final_sigmas_type" in config):
            continue  # theirs starts at the cleanest entry, or stays where it is
        if len(levels := sampling.grid(sampling.schedule, steps)) < 2:
            continue
        mine.set_timesteps(steps)
        scheduler.set_timesteps(steps)
        times = torch.as_tensor(scheduler.timesteps).double()
        if name == "PNDMScheduler":
            times = torch.tensor(scheduler._timesteps[::-1].copy()).double()
        elif name == "HeunDiscreteScheduler":
            times = torch.cat([times[:1], times[1::2]])
        wanted = len(levels) - 1
        assert len(times) - wanted == (0 if wanted == steps else 1)
        between = any("use_" in k for k in config)
        rounded = between and name in ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
        assert np.allclose(
            mine.timesteps.double(), times[:wanted], atol=1.0 if rounded else 0.51 if not between else 0.02
        )
        sigmas = getattr(scheduler, "sigmas", None)
        if sigmas is not None:
            if name == "HeunDiscreteScheduler":
                sigmas = torch.cat([sigmas[:1], sigmas[1:-1:2], sigmas[-1:]])
            assert np.allclose([float(level.ratio) for level in levels[:wanted]], sigmas[:wanted], rtol=3e-6)
            assert np.allclose(float(levels[-1].ratio), sigmas[-1], rtol=3e-6)


def test_grids_that_are_ours_are_ours():
    assert from_diffusers(make("DDIMScheduler", clip_sample=False, timestep_spacing="trailing")).grid == Trailing()
    assert from_diffusers(make("EulerDiscreteScheduler", timestep_spacing="leading", steps_offset=1)).grid == Leading(1)
    assert from_diffusers(make("DDPMScheduler", clip_sample=False, timestep_spacing="linspace")).grid == Linspace()
    assert from_diffusers(make("UniPCMultistepScheduler")).grid == Linspace(clean=False)
    assert isinstance(from_diffusers(make("DPMSolverMultistepScheduler", use_karras_sigmas=True)).grid, Karras)


PARITY = [
    ("DDPMScheduler", {"clip_sample": False}, DDPM()),
    ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_small_log"}, DDPM()),
    ("DDPMScheduler", {"clip_sample": False, "variance_type": "fixed_large"}, DDPM("large")),
    ("DDPMScheduler", {}, Clipped(DDPM())),
    ("DDIMScheduler", {"clip_sample": False}, DDIM()),
    ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}, DDIM()),
    ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}, DDIM()),
    ("DDIMScheduler", {}, Clipped(DDIM(), keep_eps=True)),
    ("DDIMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}, DDIM()),
    ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}, DDIM()),
    ("EulerDiscreteScheduler", {}, Euler()),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}, Euler()),
    ("EulerDiscreteScheduler", {"final_sigmas_type": "sigma_min"}, Euler()),
    ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}, Euler()),
    ("EulerAncestralDiscreteScheduler", {}, Euler(eta=1.0)),
    ("HeunDiscreteScheduler", {}, Heun()),
    ("HeunDiscreteScheduler", {"use_karras_sigmas": True}, Heun()),
    ("HeunDiscreteScheduler", {"clip_sample": True}, Clipped(Heun())),
    ("LMSDiscreteScheduler", {}, PLMS(variable=True)),
    ("LMSDiscreteScheduler", {"use_karras_sigmas": True}, PLMS(variable=True)),
    ("DPMSolverMultistepScheduler", {"solver_order": 1}, DPMSolverPP(1)),
    ("DPMSolverMultistepScheduler", {}, DPMSolverPP()),
    ("DPMSolverMultistepScheduler", {"timestep_spacing": "leading", "steps_offset": 1}, DPMSolverPP()),
    ("DPMSolverMultistepScheduler", {"solver_type": "heun", "use_karras_sigmas": True}, DPMSolverPP(solver="heun")),
    ("DPMSolverMultistepScheduler", {"prediction_type": "sample"}, DPMSolverPP()),
    ("DPMSolverMultistepScheduler", {"solver_order": 3, "lower_order_final": False}, DPMSolverPP(3, legacy=True)),
    (
        "DPMSolverMultistepScheduler",
        {"solver_order": 3, "solver_type": "heun", "lower_order_final": False},
        DPMSolverPP(3, solver="heun", legacy=True),
    ),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 1}, DPMSolverPP(1, 1.0)),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, DPMSolverPP(2, 1.0)),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"}, DPMSolverPP(2, 1.0, "heun")),
    ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min", "lower_order_final": False}, DPMSolverPP()),
    ("UniPCMultistepScheduler", {"solver_order": 1}, UniPC(1)),
    ("UniPCMultistepScheduler", {}, UniPC()),
    ("UniPCMultistepScheduler", {"final_sigmas_type": "sigma_min", "lower_order_final": False}, UniPC()),
    (
        "UniPCMultistepScheduler",
        {"solver_type": "bh1", "final_sigmas_type": "sigma_min", "lower_order_final": False},
        UniPC(variant="bh1"),
    ),
    (
        "UniPCMultistepScheduler",
        {"solver_order": 3, "final_sigmas_type": "sigma_min", "lower_order_final": False},
        UniPC(3),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "sampler"), PARITY, ids=str)
def test_parity(name, config, sampler):
    scheduler = make(name, **config)
    sampling = from_diffusers(scheduler)
    assert sampling.sampler == sampler
    x = start()
    for steps in (10, 20):
        want = theirs(scheduler, steps, x, sampling.row, levels=sampling.grid(sampling.schedule, steps))
        assert distance(ours(sampling, steps, x), want) < 1e-12


def test_parity_as_it_is():
    """In the float32 that they compute in, without any change to them."""
    for name, config in [
        ("EulerDiscreteScheduler", {}),
        ("DPMSolverMultistepScheduler", {}),
        ("UniPCMultistepScheduler", {}),
    ]:
        scheduler = make(name, **config)
        sampling = from_diffusers(scheduler)
        scheduler.set_timesteps(20)
        x = start().float()
        levels = sampling.grid(sampling.schedule, 20)
        z = x * float((1 + scheduler.sigmas[0] ** 2) ** 0.5) if name in IN_SIGMA else x
        for level, t in zip(levels, scheduler.timesteps, strict=False):
            fed = scheduler.scale_model_input(z, t)
            z = scheduler.step(output(sampling.row, level, fed), t, z).prev_sample
        assert distance(ours(sampling, 20, x), z) < 1e-5


def _third(algorithm, ds, h, noise=0.0):
    """One third-order step of theirs, with equal steps h in half log-SNR and answers ds (newest first), on scalars."""
    scheduler = make("DPMSolverMultistepScheduler", solver_order=3, algorithm_type=algorithm)
    scheduler.set_timesteps(20)
    scheduler.sigmas = torch.tensor([math.exp(-i * h) for i in range(21)], dtype=torch.float64)
    scheduler._step_index = 2
    answers = [torch.tensor(d, dtype=torch.float64) for d in reversed(ds)]
    zero = torch.zeros((), dtype=torch.float64)
    x = scheduler.multistep_dpm_solver_third_order_update(answers, sample=zero, noise=zero + noise)
    alpha = 1 / math.sqrt(1 + math.exp(-3 * h) ** 2)
    return float(x) / alpha


def test_their_sde_of_order_3_has_a_wrong_sign():
    """A step of length h = 0.1 with D = s^2 / 2: what it adds is alpha' times the mean of D over the step under e^(-2 (h - s))."""
    h = 0.1
    ds = [0.0, h * h / 2, 4 * h * h / 2]
    s = torch.linspace(0, h, 100001, dtype=torch.float64)
    exact = float(torch.trapezoid(2 * torch.exp(-2 * (h - s)) * s * s / 2, s))
    found = _third("sde-dpmsolver++", ds, h)
    assert abs(found - exact) > 5 * exact
    assert found < 0 < exact

    def step(legacy):
        sampler = DPMSolverPP(3, eta=1.0, legacy=legacy)
        levels = [Level(0.5, 1.0, math.exp(-i * h)) for i in range(4)]
        p = Prediction.pair(torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64))
        memory = tuple(torch.tensor([d], dtype=torch.float64) for d in ds[1:])
        state = State(torch.zeros(1, dtype=torch.float64), memory)
        return float(sampler.step(state, lambda x, level: p, levels, (torch.zeros(1, dtype=torch.float64),))[0].x)

    assert step(False) == pytest.approx(exact, rel=1e-6)
    assert 0 < step(True) < exact
    # without noise, theirs is the published step
    sampler = DPMSolverPP(3, legacy=True)
    weights = sampler.weights(
        [Level(0, 1.0, math.exp(-i * h)) for i in range(2)], *(Level(0, 1.0, math.exp(-i * h)) for i in (2, 3)), 2
    )
    mean = sum(w * d for w, d in zip(weights, ds, strict=True)) * (1 - math.exp(-h))
    assert _third("dpmsolver++", ds, h) == pytest.approx(mean, rel=1e-9)


def test_their_bh1_to_sigma_zero_is_nan():
    """Their default end: B = h is infinite, times zero. Ours is UniPC's limit."""
    scheduler = make("UniPCMultistepScheduler", solver_type="bh1")
    scheduler.set_timesteps(10)
    x = start().float()
    sampling = from_diffusers(scheduler)
    assert sampling.sampler == UniPC(variant="bh1")
    assert torch.isfinite(ours(sampling, 10, x)).all()
    for level, t in zip(sampling.grid(sampling.schedule, 10), scheduler.timesteps, strict=False):
        x = scheduler.step(output(sampling.row, level, x), t, x).prev_sample
    assert torch.isnan(x).all()


def test_their_zero_snr_is_nearly_zero_and_ours_is():
    config = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}
    theirs_ = make("EulerDiscreteScheduler", **config)
    sampling = from_diffusers(theirs_)
    assert sampling.row == V()
    levels = sampling.grid(sampling.schedule, 10)
    assert levels[0].alpha == 0
    theirs_.set_timesteps(10)
    assert float(theirs_.sigmas[0]) == pytest.approx(4096, rel=1e-6)
    x = start()
    want = theirs(make("DDIMScheduler", clip_sample=False, **config), 10, x, sampling.row, levels)
    assert distance(ours(sampling._replace(sampler=DDIM()), 10, x), want) < 1e-9


@pytest.mark.parametrize("steps", [10, 20])
def test_pndm_of_stable_diffusion_is_plms_with_heuns_first_step(steps):
    """skip_prk_steps: their second evaluation makes the first step again, with the mean of the two."""
    scheduler = make("PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=True, steps_offset=1)
    sampling = from_diffusers(scheduler)
    assert sampling.sampler == PLMS(warm_up="heun")
    assert sampling.grid == Leading(1)
    x = start()
    want = theirs(scheduler, steps, x, sampling.row, sampling.grid(sampling.schedule, steps))
    assert distance(ours(sampling, steps, x), want) < 1e-12


def test_pndm_after_its_start_is_plms():
    """The starts by Runge-Kutta differ (see from_diffusers); from the fourth step on a step is the same."""
    scheduler = make("PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=True, steps_offset=1)
    assert from_diffusers(make("PNDMScheduler")).sampler == PLMS(warm_up="rk4")
    sampling = from_diffusers(scheduler)
    steps = 10
    levels = sampling.grid(sampling.schedule, steps)
    scheduler.set_timesteps(steps)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    g = torch.Generator().manual_seed(0)
    past = [torch.randn(5, generator=g, dtype=torch.float64) for _ in range(3)]
    x, out = torch.randn(5, generator=g, dtype=torch.float64), torch.randn(5, generator=g, dtype=torch.float64)
    for i in range(3, steps):
        scheduler.ets, scheduler.counter = list(past), i + 1
        t = int(scheduler.timesteps[i + 1])
        want = scheduler.step(out, t, x).prev_sample
        state = State(x, tuple(reversed(past)))
        p = Prediction(x, levels[i], out, sampling.row)
        found = sampling.sampler.step(state, lambda x, level, p=p: p, levels[: i + 2], ())[0].x
        assert distance(found, want) < 1e-12


def test_ddims_linspace_walks_beside_its_grid():
    """It steps to t - T // steps, and asks at the next of the grid."""
    scheduler = make("DDIMScheduler", clip_sample=False, timestep_spacing="linspace")
    sampling = from_diffusers(scheduler)
    x = start()
    want = theirs(scheduler, 10, x, sampling.row, sampling.grid(sampling.schedule, 10))
    assert distance(ours(sampling, 10, x), want) > 0.01
    assert [int(t) for t in scheduler.timesteps[:3]] == [999, 888, 777]
    assert 999 - 1000 // 10 == 899


def test_order_3_lowers_the_last_step_but_one_below_15_steps():
    for name, sampler in [
        ("DPMSolverMultistepScheduler", DPMSolverPP(3, legacy=True)),
        ("UniPCMultistepScheduler", UniPC(3)),
    ]:
        scheduler = make(name, solver_order=3)
        sampling = from_diffusers(scheduler)
        assert sampling.sampler == sampler
        x = start()
        want = theirs(scheduler, 10, x, sampling.row, sampling.grid(sampling.schedule, 10))
        assert 1e-4 < distance(ours(sampling, 10, x), want) < 0.2


def test_learned_variance_is_ddpms():
    scheduler = make("DDPMScheduler", clip_sample=False, variance_type="learned_range", timestep_spacing="leading")
    sampling = from_diffusers(scheduler)
    assert sampling.sampler == DDPM("learned")
    x = start().view(4, 4, 4, 1)
    mine = as_diffusers(*sampling)
    for s in (mine, scheduler):
        s.set_timesteps(10)
    assert mine.timesteps.tolist() == scheduler.timesteps.tolist()
    a, b = x, x
    g, h = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    for t in mine.timesteps:
        out = torch.cat([torch.tanh(a), torch.sin(3 * a)], 1)
        a = mine.step(out, t, a, generator=g).prev_sample
        out = torch.cat([torch.tanh(b), torch.sin(3 * b)], 1)
        b = scheduler.step(out, t, b, generator=h).prev_sample
    # their table is float32
    assert distance(a, b) < 2e-6


REFUSED = [
    ("DDIMScheduler", {"thresholding": True}, "thresholding is True"),
    ("EulerDiscreteScheduler", {"use_beta_sigmas": True}, "use_beta_sigmas is True"),
    ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "interpolation_type is 'log_linear'"),
    ("EulerDiscreteScheduler", {"timestep_type": "continuous", "prediction_type": "v_prediction"}, "timestep_type"),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}, "algorithm_type"),
    ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}, "use_flow_sigmas"),
    ("DPMSolverMultistepScheduler", {"lambda_min_clipped": -5.1}, "lambda_min_clipped"),
    ("UniPCMultistepScheduler", {"predict_x0": False}, "predict_x0"),
    ("UniPCMultistepScheduler", {"disable_corrector": [0]}, "disable_corrector"),
    ("DDPMScheduler", {"variance_type": "fixed_large_log"}, "variance_type"),
    ("KDPM2DiscreteScheduler", {}, "KDPM2DiscreteScheduler has no equivalent"),
    ("EDMEulerScheduler", {}, "EDMEulerScheduler has no equivalent"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "config", "message"), REFUSED, ids=str)
def test_what_has_no_equivalent_is_refused_by_name(name, config, message):
    scheduler = make(name, **config) if name != "EDMEulerScheduler" else diffusers.EDMEulerScheduler()
    with pytest.raises(ValueError, match=message):
        from_diffusers(scheduler)


def test_folder_and_config_say_the_same(tmp_path):
    scheduler = make("DPMSolverMultistepScheduler", use_karras_sigmas=True, solver_order=3)
    scheduler.save_pretrained(tmp_path / "scheduler")
    assert from_diffusers(tmp_path) == from_diffusers(scheduler)
    bare = from_diffusers({"_class_name": "EulerDiscreteScheduler"})
    assert bare == from_diffusers(diffusers.EulerDiscreteScheduler())
    with pytest.raises(ValueError, match="did you mean EulerDiscreteScheduler"):
        from_diffusers({"_class_name": "EulerDiscreetScheduler"})


def test_the_range_of_clipping_is_theirs():
    sampling = from_diffusers(make("DDPMScheduler", clip_sample_range=0.5))
    assert sampling.sampler == Clipped(DDPM("small"), 0.5)
    assert from_diffusers(make("DDIMScheduler", clip_sample_range=2.0)).sampler == Clipped(DDIM(), 2.0, keep_eps=True)


def test_unipc_that_ends_at_its_own_sigma_is_refused():
    scheduler = make("UniPCMultistepScheduler", use_karras_sigmas=True, sigma_min=0.1, final_sigmas_type="sigma_min")
    with pytest.raises(ValueError, match="which ends at that level; no grid here does"):
        from_diffusers(scheduler)

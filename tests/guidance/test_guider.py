"""Our rules as guiders of diffusers: equal to theirs where they are the same, and to our own loop in everything else."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import diffusers
import pytest
import torch

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    Branch,
    CFGPlusPlus,
    Field,
    Interval,
    LinearAdaptive,
    LinearPlan,
    Mix,
    Plain,
    Rescale,
    SfumatoGuider,
    Threshold,
    as_guider,
    equivalent_scale,
)
from sfumato.samplers import DDIM, DPMSolverPP, Euler, Heun, as_diffusers, trajectory
from sfumato.schedules import Eps, Level, Prediction, RectifiedFlow, Trailing, V

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
FOLDER = Path(__file__).parent
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
EULER = diffusers.EulerDiscreteScheduler(**SD)
COND, REF = torch.tensor([1, 2]), torch.tensor([0, 0])


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2, num_class_embeds=3,
    ).eval()  # fmt: skip


def begin(scheduler, dtype=torch.float32):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return x * scheduler.init_noise_sigma


@torch.no_grad()
def run(unet, scheduler, guider, steps=6, labels=(COND, REF), dtype=torch.float32):
    """The loop of a modular pipeline; the sample, and how many branches ran in each evaluation."""
    scheduler.set_timesteps(steps)
    x, ran = begin(scheduler, dtype), []
    for i, t in enumerate(scheduler.timesteps):
        fed = scheduler.scale_model_input(x, t)
        guider.set_state(step=i, num_inference_steps=len(scheduler.timesteps), timestep=t)
        batches = guider.prepare_inputs({"labels": labels})
        for batch in batches:
            guider.prepare_models(unet)
            batch.noise_pred = unet(fed, t, class_labels=batch.labels, return_dict=False)[0]
            guider.cleanup_models(unet)
        assert not unet._forward_pre_hooks
        ran.append(len(batches))
        x = scheduler.step(guider(batches)[0], t, x, return_dict=False)[0]
    return x, ran


@torch.no_grad()
def ours(unet, sampler, levels, rule, row, x, time=lambda level: round(level.t * 1000 - 1)):
    """The same network and rule in our own loop; the sample, and evaluations per picture and branch."""

    def network(x, level, labels):
        at = torch.tensor(time(level), dtype=torch.float32)
        return Prediction(x, level, unet(x, at, class_labels=labels).sample, row)

    field = Field({"cond": Branch(network, COND), "ref": Branch(network, REF)}, rule, 2)
    *_, last = trajectory(sampler, field, levels, x)
    return last.x, field.spent


def theirs(scale, rescale=0.0):
    return diffusers.ClassifierFreeGuidance(guidance_scale=scale, guidance_rescale=rescale)


# equal to diffusers' own


class Quiet(torch.nn.Module):
    """A network that says what it is told to."""

    def forward(self, sample, out):
        return out


def protocol(guider, x, outs, times=None):
    """One evaluation with outputs made up; the guided output."""
    net = Quiet()
    guider.set_state(0, 1, torch.tensor(0) if times is None else times[0])
    batches = guider.prepare_inputs({"out": tuple(outs)})
    for batch in batches:
        guider.prepare_models(net)
        batch.noise_pred = net(x, batch.out)
        guider.cleanup_models(net)
    return guider(batches)[0]


@pytest.mark.parametrize("scale", [-1.0, 0.3, 0.5, 1.0, 1.7, 7.5, 12.0])
def test_cfg_and_rescale_are_diffusers_own_to_the_last_bit(scale):
    EULER.set_timesteps(5)
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        x, cond, ref = (torch.randn(3, 4, 8, 8, generator=g) for _ in range(3))
        for guider in (
            as_guider(CFG(scale)),
            as_guider(Mix({"cond": scale})),
            as_guider(CFG(scale, "negative"), EULER),
        ):
            if not isinstance(guider.rule, Mix):  # which sums in another order
                assert torch.equal(
                    protocol(guider, x, (cond, ref), EULER.timesteps), protocol(theirs(scale), x, (cond, ref))
                )
            else:
                assert torch.allclose(
                    protocol(guider, x, (cond, ref)), protocol(theirs(scale), x, (cond, ref)), atol=1e-5
                )
        if scale != 1.0:  # where theirs rescales what is not guided
            for phi in (0.3, 0.7, 1.0):
                guider = as_guider(Rescale(CFG(scale), phi, Eps()), EULER)
                found = protocol(guider, x, (cond, ref), EULER.timesteps)
                assert torch.equal(found, protocol(theirs(scale, phi), x, (cond, ref)))


@pytest.mark.parametrize(
    "scheduler",
    [
        EULER,
        diffusers.DDIMScheduler(prediction_type="v_prediction", clip_sample=False, **SD),
        diffusers.HeunDiscreteScheduler(**SD),
        as_diffusers(DPMSolverPP(), like=EULER),
        as_diffusers(Heun(), like=diffusers.DDIMScheduler(prediction_type="v_prediction")),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_run_is_diffusers_own_to_the_last_bit(unet, scheduler):
    row = V() if scheduler.config.prediction_type == "v_prediction" else Eps()
    want, ran = run(unet, scheduler, theirs(5.0))
    for guider in (as_guider(CFG(5.0)), as_guider(CFG(5.0), scheduler), as_guider(Interval(CFG(5.0)), scheduler)):
        found, own = run(unet, scheduler, guider)
        assert torch.equal(found, want)
        assert own == ran == [2] * len(scheduler.timesteps)
    want, _ = run(unet, scheduler, theirs(5.0, 0.7))
    assert torch.equal(run(unet, scheduler, as_guider(Rescale(CFG(5.0), 0.7, row), scheduler))[0], want)


# levels


CLASSES = {
    "EulerDiscreteScheduler": {"use_karras_sigmas": True, **SD},
    "EulerAncestralDiscreteScheduler": SD,
    "LMSDiscreteScheduler": SD,
    "DDIMScheduler": {"timestep_spacing": "trailing", **SD},
    "DDPMScheduler": {},
    "LCMScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True, **SD},
    "DPMSolverMultistepScheduler": {"use_karras_sigmas": True, **SD},
    "UniPCMultistepScheduler": {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0},
    "DEISMultistepScheduler": SD,
    "EDMEulerScheduler": {},
    "FlowMatchEulerDiscreteScheduler": {"shift": 3.0},
    "HeunDiscreteScheduler": SD,
}


@pytest.mark.parametrize("name", CLASSES)
def test_levels_are_those_of_what_the_network_is_fed(name):
    """Data and noise as the scheduler itself mixes and scales them, at each of its timesteps."""
    from sfumato.guidance.guiders.course import read_course

    scheduler = getattr(diffusers, name)(**CLASSES[name])
    scheduler.set_timesteps(7)
    course = read_course(scheduler)
    one, none, many = torch.ones(1), torch.zeros(1), len(scheduler.timesteps)
    mix = getattr(scheduler, "add_noise", None)
    for i, t in enumerate(scheduler.timesteps):
        if name in ("HeunDiscreteScheduler", "PNDMScheduler") and i % 2 == 0 and i:
            continue  # they find the second of two equal timesteps
        pair = []
        for data, noise in ((one, none), (none, one)):
            if name == "FlowMatchEulerDiscreteScheduler":
                pair.append(scheduler.scale_noise(data, t[None], noise))
                continue
            x = mix(data, noise, t[None].long() if not t.is_floating_point() else t[None])
            if hasattr(scheduler, "_step_index"):
                scheduler._step_index = i
            pair.append(scheduler.scale_model_input(x, t))
            if hasattr(scheduler, "_step_index"):
                scheduler._step_index = None
        level = course.places[i].level
        assert [level.alpha, level.sigma] == pytest.approx([float(v) for v in pair], abs=3e-5)
    steps = {"HeunDiscreteScheduler": [i // 2 for i in range(many)], "PNDMScheduler": [0, 0, *range(1, many - 1)]}
    assert [p.step for p in course.places] == steps.get(name, list(range(many)))
    for place, after in itertools.pairwise(course.places):
        assert (place.now, place.nxt) == (after.now, after.nxt) if place.step == after.step else place.nxt == after.now
        assert place.nxt.ratio < place.now.ratio
    end = course.places[-1].nxt
    assert end.sigma < 0.1 if name in ("PNDMScheduler", "DEISMultistepScheduler") else end.sigma == 0
    assert course.places[0].now.t > course.places[-1].now.t >= 0


@pytest.mark.parametrize("sampler", [DPMSolverPP(), Heun()], ids=str)
def test_levels_of_our_scheduler_are_its_own(sampler):
    from sfumato.guidance.guiders.course import read_course

    scheduler = as_diffusers(sampler, like=EULER)
    with pytest.raises(ValueError, match="set_timesteps"):
        read_course(scheduler)
    scheduler.set_timesteps(5)
    levels, places = Trailing()(scheduler.schedule, 5), read_course(scheduler).places
    if scheduler.order == 1:
        assert places == [(levels[i], levels[i], levels[i + 1], i) for i in range(5)]
    else:
        assert [p.step for p in places] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
        assert [p.level for p in places[:3]] == [levels[0], levels[1], levels[1]]
        assert [p.now for p in places[:3]] == [levels[0], levels[0], levels[1]]


def test_an_interval_in_sigma_runs_one_branch_outside(unet):
    """Sigma as Euler has it, not a share of the steps; equal to a loop written by hand."""
    low, high = 0.5, 4.0
    guider = as_guider(Interval(CFG(4.0), low, high), EULER)
    assert guider.num_conditions == 2
    found, ran = run(unet, EULER, guider, 9)
    assert guider.num_conditions == 2  # the next prompt needs its negative, though the last step did not
    EULER.set_timesteps(9)
    inside = [low < float(sigma) <= high for sigma in EULER.sigmas[:-1]]
    assert ran == [1 + i for i in inside]
    assert 0 < sum(inside) < 9
    x = begin(EULER)
    with torch.no_grad():
        for t, guided in zip(EULER.timesteps, inside, strict=True):
            fed = EULER.scale_model_input(x, t)
            out = unet(fed, t, class_labels=COND).sample
            if guided:
                ref = unet(fed, t, class_labels=REF).sample
                out = ref + 4.0 * (out - ref)
            x = EULER.step(out, t, x).prev_sample
    assert torch.equal(found, x)


# equal to our own loop


RULES = [
    CFG(3.0),
    Interval(CFG(3.0), 0.3, 3.0),
    APG(5.0, norm=6.0, momentum=-0.5),
    Interval(APG(4.0, momentum=0.5), 0.1, 3.0),
    Rescale(CFG(5.0), 0.7),
    Rescale(CFG(5.0), 0.7, V()),
    Threshold(CFG(5.0), 1.0, 0.98),
    Threshold(CFG(5.0), 0.8),
    Adaptive(CFG(3.0), 0.9),
    CFG([1.0, 3.0]),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_rules_are_those_of_our_own_loop(unet, rule, kind):
    """In float64, so that what is wrong is not taken for rounding; Heun's second evaluation reads the memory of the step's first."""
    net = unet.double()
    try:
        for sampler in (DPMSolverPP(), Heun()):
            scheduler = as_diffusers(sampler, like=EULER, row=kind)
            found, ran = run(net, scheduler, as_guider(rule, scheduler), dtype=torch.float64)
            levels = Trailing()(scheduler.schedule, 6)
            want, spent = ours(net, sampler, levels, rule, scheduler.row, begin(scheduler, torch.float64))
            assert (found - want).abs().max() < 1e-8 * want.abs().max()
            whole = int(spent[:, 1].max())  # the unconditional branch runs for all or for none
            assert ran.count(2) == whole
            assert len(ran) == int(spent[0, 0])
    finally:
        unet.float()


@pytest.mark.parametrize(
    "rule", [CFGPlusPlus(0.6), CFGPlusPlus(5.0, per="noise"), Rescale(CFGPlusPlus(0.8), 0.5)], ids=str
)
def test_cfg_plus_plus_is_exact_for_ddim_and_euler(unet, rule):
    """x can't be moved after the step: the guided output is the one from which the step itself ends there."""
    net = unet.double()
    try:
        scheduler = as_diffusers(DDIM(), like=EULER)
        found, ran = run(net, scheduler, as_guider(rule, scheduler), dtype=torch.float64)
        levels = Trailing()(scheduler.schedule, 6)
        want, _ = ours(net, DDIM(), levels, rule, Eps(), begin(scheduler, torch.float64))
        assert (found - want).abs().max() < 1e-8 * want.abs().max()
        assert ran == [2] * 6
    finally:
        unet.float()
    found, _ = run(unet, EULER, as_guider(rule, EULER))
    levels = [Level(float(s), 1.0, float(s)) for s in EULER.sigmas]
    times = {float(s): float(t) for s, t in zip(EULER.sigmas, EULER.timesteps, strict=False)}

    def network(x, level, labels):
        scale = (1 + level.sigma**2) ** 0.5
        out = unet(x / scale, torch.tensor(times[level.sigma]), class_labels=labels).sample
        return Prediction(x, level, out, Eps())

    if not isinstance(rule, Rescale):  # whose spread is that of x0 in other units of eps
        field = Field({"cond": Branch(network, COND), "ref": Branch(network, REF)}, rule, 2)
        with torch.no_grad():
            *_, last = trajectory(Euler(), field, levels, begin(EULER))
        assert (found - last.x).abs().max() < 1e-4 * last.x.abs().max()


def test_cfg_plus_plus_is_cfg_of_the_equivalent_scale():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref = (torch.randn(2, 4, 4, 4, generator=g) for _ in range(3))
    levels = [Level(0.0, 1.0, float(s)) for s in EULER.sigmas]
    found = protocol(as_guider(CFGPlusPlus(0.6), EULER), x, (cond, ref), EULER.timesteps)
    assert torch.allclose(found, ref + equivalent_scale(0.6, levels)[0] * (cond - ref), atol=1e-6)


def test_a_step_of_data_at_flow_matching():
    """APG in the space of the data under Flow: x0 = x - sigma u."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(4)
    g = torch.Generator().manual_seed(0)
    x, cond, ref = (torch.randn(1, 4, 6, 6, generator=g, dtype=torch.float64) for _ in range(3))
    guider = as_guider(APG(4.0), scheduler)
    s = float(scheduler.sigmas[0])
    good, bad = x - s * cond, x - s * ref
    step = good - bad
    across = step - (step * good).sum() / (good * good).sum() * good
    want = (x - (good + 3.0 * across)) / s
    assert torch.allclose(protocol(guider, x, (cond, ref), scheduler.timesteps), want, atol=1e-12)


# which branches run


def test_adaptive_stops_for_good_and_starts_anew(unet):
    always = as_guider(Adaptive(CFG(3.0), -1.0, least=2), EULER)  # all cosines are above
    never = as_guider(Adaptive(CFG(3.0), 1.1), EULER)
    for _ in range(2):
        assert always.num_conditions == never.num_conditions == 2
        assert run(unet, EULER, always)[1] == [2, 2, 1, 1, 1, 1]
        assert run(unet, EULER, never)[1] == [2] * 6
    assert torch.equal(run(unet, EULER, never)[0], run(unet, EULER, theirs(3.0))[0])


@pytest.mark.parametrize("rule", [APG(5.0, momentum=-0.7), Adaptive(APG(4.0, momentum=0.5), 0.95)], ids=str)
def test_memory_is_kept_along_a_trajectory_and_not_beyond(unet, rule):
    guider = as_guider(rule, EULER)
    first, again = run(unet, EULER, guider)[0], run(unet, EULER, guider)[0]
    assert torch.equal(first, again)
    forgetful = as_guider(APG(5.0), EULER)
    assert not torch.allclose(first, run(unet, EULER, forgetful)[0], atol=1e-3)
    # one that was left in the middle starts anew as well, and asks for a negative prompt
    guider.set_state(0, 6, EULER.timesteps[0])
    guider.set_state(1, 6, EULER.timesteps[1])
    assert torch.equal(run(unet, EULER, guider)[0], first)


def test_a_run_that_was_broken_off(unet):
    """Outside of the interval, where one branch runs: the next prompt needs its negative all the same."""
    guider = as_guider(Interval(CFG(3.0), 0.1, 1.0), EULER)
    EULER.set_timesteps(4)
    guider.set_state(0, 4, EULER.timesteps[0])
    assert guider.num_conditions == 1
    (batch,) = guider.prepare_inputs({"labels": (COND, REF)})
    assert guider.num_conditions == 1
    guider.prepare_models(unet)
    with pytest.raises(RuntimeError):
        unet(torch.zeros(2, 5, 8, 8), 1, class_labels=batch.labels)
    assert guider.num_conditions == 2
    _, ran = run(unet, EULER, guider)  # nothing listens any more either
    assert ran[0] == 1


@pytest.mark.parametrize(
    ("rule", "before", "ran"),
    [
        (Plain(), 1, [1] * 6), (CFG(1.0), 1, [1] * 6), (CFG(0.0), 2, [1] * 6), (CFG([1.0, 1.0]), 2, [1] * 6),
        (Mix({"cond": 1.0}), 1, [1] * 6), (Interval(CFG(3.0), 2.0, 2.0), 1, [1] * 6), (Interval(CFG(3.0), 1e-9, 2e-9), 2, [1] * 6),
        (Interval(CFG(3.0), 0.7391, 0.7392), 2, [1] * 6), (Interval(CFG(3.0), 1.23, 1.24, "log_snr"), 2, [1] * 6),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_asked_does_not_run(unet, rule, before, ran):
    guider = as_guider(rule, EULER)
    assert guider.num_conditions == before
    found, own = run(unet, EULER, guider)
    assert own == ran
    labels = REF if rule == CFG(0.0) else COND
    assert torch.equal(found, run(unet, EULER, as_guider(Plain()), labels=(labels, REF))[0])


def test_only_the_unconditional_branch(unet):
    guider = as_guider(CFG(0.0))
    guider.set_state(0, 4, torch.tensor(0))
    (batch,) = guider.prepare_inputs({"labels": (COND, REF)})
    assert batch.labels is REF
    guider.prepare_models(unet)
    assert guider.is_unconditional
    guider.cleanup_models(unet)


@dataclass(frozen=True)
class Mine:
    """A user's rule: guides from its second step on, every other step, away from the negative prompt."""

    scale: float = 2.0

    def init(self, x):
        return ()

    def __call__(self, ask, memory):
        if ask.step % 2 == 0:
            (p,) = ask("cond")
            return p, memory
        cond, ref = ask("cond", "negative")
        return Prediction.pair(cond.x0, ref.eps + self.scale * (cond.eps - ref.eps)) if False else cond_toward(
            ask, ref, cond
        ), ()


def cond_toward(ask, ref, cond):
    eps = ref.eps + 2.0 * (cond.eps - ref.eps)
    return Prediction(ask.x, ask.level, eps, Eps())


@dataclass(frozen=True)
class Looks:
    """Asks for more, or not, by what it hears: 0 in the trial, so that it seems not to."""

    def init(self, x):
        return ()

    def __call__(self, ask, memory):
        (cond,) = ask("cond")
        if float(cond.out.flatten()[0]) > 50.0:
            return ask("ref")[0], memory
        return cond, memory


def test_a_rule_of_the_user(unet):
    guider = as_guider(Mine(), EULER)
    assert guider.num_conditions == 2
    found, ran = run(unet, EULER, guider)
    assert ran == [1, 2] * 3
    assert found.isfinite().all()
    assert guider.config.rule["init_args"] == {"scale": 2.0}


@pytest.mark.parametrize("scheduler", [EULER, as_diffusers(Heun(), like=EULER)], ids=lambda s: type(s).__name__)
def test_image_to_image_begins_within_the_timesteps(scheduler):
    """The steps of a rule are counted from there, its levels are those of the scheduler."""
    scheduler.set_timesteps(6)
    times = scheduler.timesteps[2 * scheduler.order :]
    scheduler.set_begin_index(2 * scheduler.order)
    sigmas = EULER.sigmas if scheduler is EULER else [level.ratio for level, *_ in scheduler.asked]
    alternate = as_guider(Mine(), scheduler)
    inside = as_guider(Interval(CFG(2.0), high=float(sigmas[3 * scheduler.order]) * 1.0001), scheduler)
    ran = [[], []]
    for guider, own in zip((alternate, inside), ran, strict=True):
        for i, t in enumerate(times):
            guider.set_state(i, len(times), t)
            own.append(len(guider.prepare_inputs({"labels": (COND, REF)})))
    each = 1 if scheduler is EULER else 2
    assert ran[0] == [1 + (i // each) % 2 for i in range(len(times))]
    assert ran[1] == [1] * each + [2] * (len(times) - each)


def test_a_rule_that_decides_by_what_it_hears_is_refused():
    guider = as_guider(Looks(), EULER)
    EULER.set_timesteps(3)
    x = torch.zeros(1, 4, 4, 4)
    assert torch.equal(protocol(guider, x, (x + 1, x), EULER.timesteps), x + 1)
    with pytest.raises(ValueError, match="which ones it asks depends on what they say"):
        protocol(guider, x, (x + 99, x), EULER.timesteps)


def test_linear_adaptive(unet):
    """One evaluation in the steps that it replaces; other levels and samplers that ask twice are refused, in its own words."""
    scheduler = as_diffusers(DDIM(), like=EULER)
    levels = Trailing()(scheduler.schedule, 4)
    plan = LinearPlan(3.0, [None, [0.1, 0.8, 0.1], None, []], [level.ratio for level in levels[:-1]])
    guider = as_guider(LinearAdaptive(plan), scheduler)
    assert guider.num_conditions == 2
    net = unet.double()
    try:
        found, ran = run(net, scheduler, guider, 4, dtype=torch.float64)
        want, spent = ours(net, DDIM(), levels, LinearAdaptive(plan), Eps(), begin(scheduler, torch.float64))
    finally:
        unet.float()
    assert ran == [2, 1, 2, 1]
    assert spent.sum(0).tolist() == [8, 4]
    assert (found - want).abs().max() < 1e-8 * want.abs().max()
    with pytest.raises(ValueError, match="the plan was fitted for"):
        run(unet, scheduler, guider, 5)
    heun = as_diffusers(Heun(), like=EULER)
    with pytest.raises(ValueError, match="ask once per step"):
        run(unet, heun, as_guider(LinearAdaptive(plan), heun), 4)


def test_start_and_stop_are_shares_of_the_steps(unet):
    want, ran = run(unet, EULER, diffusers.ClassifierFreeGuidance(guidance_scale=3.0, start=0.2, stop=0.7), 7)
    found, own = run(unet, EULER, as_guider(CFG(3.0), start=0.2, stop=0.7), 7)
    assert torch.equal(found, want)
    assert own == ran == [1, 2, 2, 2, 1, 1, 1]
    # both evaluations of a step of Heun, counted in evaluations
    heun = as_diffusers(Heun(), like=EULER)
    for start in (0.2, 0.3):
        guider = as_guider(CFG(3.0), heun, start=start)
        assert run(unet, heun, guider, 4)[1] == [1, 1, 2, 2, 2, 2, 2]
    with pytest.raises(ValueError, match="stop"):
        as_guider(CFG(3.0), stop=1.5)
    guider.disable()
    assert guider.num_conditions == 1
    assert run(unet, heun, guider, 4)[1] == [1] * 7
    guider.enable()
    assert guider.num_conditions == 2


# inputs and outputs


def test_a_learned_variance_stays_the_prompts():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref = torch.randn(2, 4, 4, 4, generator=g), *(torch.randn(2, 8, 4, 4, generator=g) for _ in range(2))
    for rule in (CFG(3.0), APG(3.0), CFGPlusPlus(), Rescale(CFG(3.0)), Threshold(CFG(2.0))):
        found = protocol(as_guider(rule, EULER), x, (cond, ref), EULER.timesteps)
        assert torch.equal(found[:, 4:], cond[:, 4:])
        half = protocol(as_guider(rule, EULER), x, (cond[:, :4], ref[:, :4]), EULER.timesteps)
        assert torch.equal(found[:, :4], half)


def test_more_channels_of_an_inpainting_network_are_left_out():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref, more = (torch.randn(2, 4, 4, 4, generator=g) for _ in range(4))
    guider = as_guider(APG(3.0), EULER)
    found = protocol(guider, torch.cat([x, more, more[:, :1]], 1), (cond, ref), EULER.timesteps)
    assert torch.equal(found, protocol(guider, x, (cond, ref), EULER.timesteps))
    with pytest.raises(ValueError, match=r"was fed \(2, 4, 2, 4\) and answered \(2, 4, 4, 4\)"):
        protocol(guider, x[:, :, :2], (cond, ref), EULER.timesteps)


def test_half_precision_is_guided_in_float32():
    EULER.set_timesteps(5)
    g = torch.Generator().manual_seed(0)
    x, cond, ref = (torch.randn(2, 4, 4, 4, generator=g).bfloat16() for _ in range(3))
    for rule in (CFG(3.0), APG(3.0)):
        found = protocol(as_guider(rule, EULER), x, (cond, ref), EULER.timesteps)
        want = protocol(as_guider(rule, EULER), x.float(), (cond.float(), ref.float()), EULER.timesteps)
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, want.bfloat16())


def test_fields_of_a_block_state(unet):
    """Other pipelines name the fields of their state."""
    from diffusers.modular_pipelines.modular_pipeline import BlockState

    guider, state = as_guider(CFG(3.0)), BlockState(one=COND, two=REF, mask=COND)
    guider.set_state(0, 4, torch.tensor(0))
    cond, ref = guider.prepare_inputs_from_block_state(state, {"labels": ("one", "two"), "mask": "mask"})
    assert cond.labels is COND
    assert ref.labels is REF
    assert cond.mask is ref.mask is COND
    with pytest.raises(ValueError, match="has encoded no negative prompt"):
        guider.prepare_inputs_from_block_state(state, {"labels": ("one", "three")})


# configs


def test_a_config_comes_back(tmp_path, unet):
    rule = Interval(Rescale(APG(5.0, momentum=-0.5), 0.3, V()), 0.28, 5.42)
    guider = SfumatoGuider(rule, EULER, start=0.1, stop=0.9)
    guider.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "guider_config.json").read_text())
    assert saved["_class_name"] == "SfumatoGuider"
    assert saved["rule"]["class_path"] == "sfumato.guidance.Interval"
    assert saved["rule"]["init_args"]["rule"]["init_args"]["rule"]["init_args"]["norm"] == "inf"
    again = SfumatoGuider.from_pretrained(tmp_path, scheduler=EULER)
    assert again.rule == rule
    assert (again._start, again._stop, again.config.start, again.scheduler) == (0.1, 0.9, 0.1, EULER)
    assert torch.equal(run(unet, EULER, again)[0], run(unet, EULER, guider)[0])
    other = again.new(rule=CFG(2.0))
    assert (other.rule, other.scheduler, other._stop) == (CFG(2.0), EULER, 0.9)
    assert again.new().config.rule == again.config.rule
    alone = SfumatoGuider.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"guider\.scheduler = pipe\.scheduler"):
        run(unet, EULER, alone)
    alone.scheduler = EULER
    assert torch.equal(run(unet, EULER, alone)[0], run(unet, EULER, guider)[0])


def test_a_plug_in_needs_leave(tmp_path, monkeypatch):
    (tmp_path / "my_rule.py").write_text(
        "from dataclasses import dataclass\nfrom sfumato.guidance import CFG\n\n\n@dataclass(frozen=True)\nclass Double(CFG):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from my_rule import Double

    guider = as_guider(Double(2.0))
    guider.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"allow=\['my_rule'\]"):
        SfumatoGuider.from_pretrained(tmp_path)
    assert SfumatoGuider.from_pretrained(tmp_path, allow=["my_rule"]).rule == Double(2.0)
    assert guider.new(stop=0.5).rule == Double(2.0)


def test_a_config_cant_give_leave_to_itself(tmp_path, monkeypatch):
    (tmp_path / "my_trap.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    as_guider(CFG(2.0)).save_pretrained(tmp_path)
    file = tmp_path / "guider_config.json"
    file.write_text(
        json.dumps({**json.loads(file.read_text()), "allow": ["my_trap"], "rule": {"class_path": "my_trap.Rule"}})
    )
    for load in (
        SfumatoGuider.from_pretrained,
        lambda folder: SfumatoGuider.from_config(json.loads((folder / "guider_config.json").read_text())),
    ):
        with pytest.raises(ValueError, match=r"allow=\['my_trap'\]"):
            load(tmp_path)


def test_importing_guidance_does_not_import_diffusers():
    code = "import sys\nfrom sfumato.guidance import CFG, as_guider\nprint('diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


# refusals


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CFG, "rule is <class"),
        ("CFG", "rule is 'CFG'; allowed: a guidance rule"),
        (None, "rule is None"),
        (Autoguidance(), "asks for branch 'weak', and a pipeline of diffusers has 'cond'"),
        (Interval(Autoguidance(), 3.1, 3.2), "asks for branch 'weak'"),
        (Mix({"cond": 2.0, "second": 1.0}), "asks for branch 'second'"),
        (CFG(2.0, "other"), "asks for branch 'other'"),
    ],
)
def test_rules_that_a_pipeline_has_no_branch_for(rule, words):
    with pytest.raises(ValueError, match=words):
        as_guider(rule)


def test_a_rule_that_cant_be_written_down():
    class Bare:
        def init(self, x):
            return ()

        def __call__(self, ask, memory):
            return ask("cond")[0], ()

    with pytest.raises(ValueError, match="make it a dataclass"):
        as_guider(Bare())


@pytest.mark.parametrize("rule", [Interval(CFG(2.0), 0.1, 1.0), APG(2.0), Rescale(CFG(2.0)), CFGPlusPlus()], ids=str)
def test_without_a_scheduler_what_needs_levels_is_refused(rule):
    x = torch.randn(1, 4, 4, 4)
    with pytest.raises(ValueError, match=r"has no scheduler that knows it.*as_guider\(rule, pipe\.scheduler\)"):
        protocol(as_guider(rule), x, (x + 1, x))


def test_schedulers_that_are_refused(unet):
    with pytest.raises(ValueError, match=r"CMStochasticIterativeScheduler has no path.*as_diffusers"):
        as_guider(APG(), diffusers.CMStochasticIterativeScheduler())
    with pytest.raises(ValueError, match="a int is no scheduler"):
        as_guider(APG(), 3)
    for name in ("KDPM2DiscreteScheduler", "ScoreSdeVeScheduler", "DDIMInverseScheduler", "PNDMScheduler"):
        scheduler = getattr(diffusers, name)()
        guider = as_guider(APG(), scheduler)
        scheduler.set_timesteps(4)
        with pytest.raises(ValueError, match=f"{name}.*as_diffusers"):
            guider.set_state(0, 4, scheduler.timesteps[0])
    # the pipeline has got another one since
    other = diffusers.EulerDiscreteScheduler(**SD, use_karras_sigmas=True)
    other.set_timesteps(3)
    guider = as_guider(APG(), other)
    with pytest.raises(ValueError, match=r"is it another scheduler\? Set guider\.scheduler"):
        run(unet, EULER, guider)


def test_what_the_rule_refuses_is_said_before_the_first_step():
    scheduler = as_diffusers(DDIM(), RectifiedFlow(), row="flow_prediction")
    scheduler.set_timesteps(4)
    guider = as_guider(Rescale(CFG(2.0), 0.7, Eps()), scheduler)
    with pytest.raises(ValueError, match=r"Rescale\.space is Eps\(\), and at t = 1 \(no data\)"):
        guider.set_state(0, 4, scheduler.timesteps[0])
    guider = as_guider(CFG(2.0))
    guider.set_state(0, 1, torch.tensor(0))
    batches = guider.prepare_inputs({"labels": (COND, REF)})
    for batch in batches:
        batch.noise_pred = torch.zeros(2, 1, 1, 1)
    with pytest.raises(ValueError, match="heard no network"):
        guider(batches)
    guider = as_guider(CFG([2.0, 3.0, 4.0]))
    with pytest.raises(ValueError, match=r"CFG\.scale has 3 numbers for 2 picture"):
        protocol(guider, torch.zeros(2, 4, 4, 4), (torch.zeros(2, 4, 4, 4), torch.ones(2, 4, 4, 4)))


def test_modular_sdxl():
    """In a process of its own, since its pipelines import transformers, whose names are made up where it is missing."""
    path = os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(FOLDER / "modular_sdxl.py")],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-2000:]
    found = json.loads(lines[0].removeprefix("FOUND "))
    assert len(found) == 17
    assert [name for name, held in found.items() if not held] == []

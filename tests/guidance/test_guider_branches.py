"""Which branches a guider runs, and what it remembers."""

import gc
import weakref
from dataclasses import dataclass

import diffusers
import pytest
import torch
from guiding import COND, EULER, REF, begin, ours, protocol, run, theirs

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Interval,
    LinearAdaptive,
    LinearPlan,
    Mix,
    Plain,
    as_guider,
)
from sfumato.samplers import DDIM, Heun, as_diffusers
from sfumato.schedules import Eps, Prediction, Trailing

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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
    """A user's rule: guides every other step, from the second on, away from the negative prompt."""

    scale: float = 2.0

    def init(self, x):
        return ()

    def __call__(self, ask, memory):
        if ask.step % 2 == 0:
            (p,) = ask("cond")
            return p, memory
        cond, ref = ask("cond", "negative")
        return Prediction(ask.x, ask.level, ref.eps + self.scale * (cond.eps - ref.eps), Eps()), ()


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


def test_nothing_of_a_run_is_kept_when_it_is_over(unet):
    """What the network was fed, and what rules remember, may be large."""
    guider, fed = as_guider(APG(5.0, momentum=-0.7), EULER), []
    handle = unet.register_forward_hook(lambda module, args, out: fed.append(weakref.ref(args[0])))
    run(unet, EULER, guider, 3)
    handle.remove()
    gc.collect()
    assert len(fed) == 6
    assert [ref() for ref in fed] == [None] * 6
    assert guider._field is None

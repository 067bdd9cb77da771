"""Guiders read noise levels from a scheduler, and intervals are in them."""

import itertools

import diffusers
import pytest
import torch
from guiding import COND, EULER, REF, SD, begin, run

from sfumato.guidance import (
    CFG,
    Interval,
    as_guider,
)
from sfumato.samplers import DPMSolverPP, Heun, as_diffusers
from sfumato.schedules import Trailing

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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

"""Guiders do what our own loop does."""

import diffusers
import pytest
import torch
from guiding import COND, EULER, REF, begin, ours, protocol, run

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Branch,
    CFGPlusPlus,
    Field,
    Interval,
    Rescale,
    Threshold,
    as_guider,
    equivalent_scale,
)
from sfumato.samplers import DDIM, DPMSolverPP, Euler, Heun, as_diffusers, trajectory
from sfumato.schedules import Eps, Level, Prediction, Trailing, V

# what diffusers does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


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

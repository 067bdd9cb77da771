"""Rules where levels or fields are not the loop's own: steps of each sample's own length, and correctors under another rule."""

import math
from dataclasses import dataclass

import pytest
import torch

from sfumato.guidance import APG, CFG, Branch, Field, Interval, Plain
from sfumato.samplers import DDIM, AdaptiveStep, Langevin, PredictorCorrector, trajectory
from sfumato.schedules import Level, Prediction, V, VarianceExploding


def gaussians(x, level, condition):
    """Condition 1: data N(0, 1); condition 0: N(0, 2); as a v-network says it."""
    at = level.like(x)
    variance = torch.where(condition["on"].view(-1, *[1] * (x.ndim - 1)) > 0, 1.0, 2.0).to(x)
    x0 = at.alpha * variance / (at.alpha**2 * variance + at.sigma**2) * x
    eps = at.sigma / (at.alpha**2 * variance + at.sigma**2) * x
    return Prediction(x, level, at.alpha * eps - at.sigma * x0, V())


def field(rule, n):
    one, zero = torch.ones(n), torch.zeros(n)
    return Field({"cond": Branch(gaussians, {"on": one}), "ref": Branch(gaussians, {"on": zero})}, rule, n)


def carried(g, to, w):
    """How the ODE of CFG w scales z = x / alpha from sigma / alpha g to another: dz / dg = g z (w / (1 + g^2) + (1 - w) / (2 + g^2))."""
    return ((1 + to**2) / (1 + g**2)) ** (w / 2) * ((2 + to**2) / (2 + g**2)) ** ((1 - w) / 2)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (0.0, 1.0), (0.7, math.inf)])
def test_adaptive_steps_find_the_interval_within_a_grid_of_one_step(low, high):
    levels = [Level(1.0, 1.0, 10.0), Level(0.0, 1.0, 0.01)]
    x = torch.tensor([[9.0], [-3.0], [0.4]], dtype=torch.float64)
    rule = Interval(CFG(4.0), low, high)
    sampler = AdaptiveStep(1e-5, path=VarianceExploding(0.001, 100.0))
    guided = field(rule, 3)
    with torch.no_grad():
        *_, last = trajectory(sampler, guided, levels, x)
    top, bottom = min(high, 10.0), max(low, 0.01)
    wanted = x * carried(10.0, top, 1.0) * carried(top, bottom, 4.0) * carried(bottom, 0.01, 1.0)
    assert torch.allclose(last.x, wanted, rtol=6e-3)  # an end is found to within a step
    cond, ref = guided.spent.T
    assert bool((ref > 0).all())
    assert bool((ref < cond).all())


def test_levels_per_element_are_refused_by_an_interval():
    x = torch.randn(2, 1, 2, 2, dtype=torch.float64)
    sigma = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="these are per element"):
        field(Interval(CFG(2.0), 0.2, 1.0), 2)(x, Level(0.5, 1 - sigma, sigma))


@dataclass(frozen=True)
class Remembers:
    """Answers with cond, and notes how many steps its memory has seen."""

    notes: tuple = ()

    def init(self, x):
        return (torch.zeros(len(x)),)

    def __call__(self, ask, memory):
        (cond,) = ask("cond")
        NOTES.append((int(memory[0][0]), ask.step, ask.now is ask.level))
        return cond, (memory[0] + 1,)


NOTES: list = []


def test_a_correctors_rule_remembers_from_step_to_step():
    """Two evaluations in each step read the memory that the step began with; the next step has one more; a new walk begins anew."""
    levels = [Level(t, math.sqrt(1 - t * t), t) for t in (0.9, 0.7, 0.5, 0.3)]
    sampler = PredictorCorrector(DDIM(), Langevin(count=2), rule=Remembers())
    guided, x = field(Plain(), 2), torch.randn(2, 1, dtype=torch.float64)
    for _ in range(2):
        NOTES.clear()
        with torch.no_grad():
            list(trajectory(sampler, guided, levels, x, lambda step, draw: torch.zeros_like(x)))
        assert [(k, k, True) for k in range(3) for _ in range(2)] == NOTES
    assert (
        guided.spent.tolist() == [[18, 0]] * 2
    )  # one of the predictor and two of the corrector, in three steps, twice


def test_momentum_lives_in_a_corrector():
    levels = [Level(t, math.sqrt(1 - t * t), t) for t in (0.9, 0.7, 0.5, 0.3)]
    x = torch.randn(2, 3, dtype=torch.float64)

    def end(momentum):
        sampler = PredictorCorrector(DDIM(), Langevin(), rule=APG(3.0, eta=1.0, momentum=momentum))
        with torch.no_grad():
            steps = [s.x for s in trajectory(sampler, field(Plain(), 2), levels, x, lambda step, draw: 0 * x)]
        return steps

    without, with_it = end(0.0), end(-0.5)
    assert torch.equal(without[0], with_it[0])  # nothing to remember yet
    assert not torch.allclose(without[1], with_it[1], atol=1e-3)

"""Real stability intervals: measured from the samplers' own numbers, against algebra and against walks."""

import math

import pytest
import torch

from sfumato.samplers import DDIM, GHVB, PLMS, AdaptiveStep, DPMSolverPP, GradientEstimation, HeavyBall, Heun, UniPC
from sfumato.schedules import Level, Prediction
from sfumato.tools.orders.measure import walked
from sfumato.tools.orders.stability import closed_form, real_interval, spectral_radius

BETAS = (0.3, 0.5, 0.8, 0.95)


@pytest.mark.parametrize("k", range(1, 6))
def test_closed_forms_of_the_paper(k):
    adams = {1: 2, 2: 1, 3: 6 / 11, 4: 3 / 10, 5: 90 / 551}[k]
    assert real_interval(PLMS(k)) == pytest.approx(adams, rel=1e-9)
    for b in BETAS:
        assert real_interval(HeavyBall(PLMS(k), b)) == pytest.approx(adams * (2 / b - 1), rel=1e-9)
        ghvb = [2 * (2 - b) / b, 2 - b, 6 * (2 - b) / (12 - b), 3 * (2 - b) / (11 - b), 90 * (2 - b) / (600 - 49 * b)][
            k - 1
        ]
        assert real_interval(GHVB(k - 1 + b)) == pytest.approx(ghvb, rel=1e-9)
        assert closed_form(GHVB(k - 1 + b)) == pytest.approx(ghvb)
        assert closed_form(HeavyBall(PLMS(k), b)) == pytest.approx(adams * (2 / b - 1))


@pytest.mark.parametrize(
    ("sampler", "interval"),
    [
        (DDIM(), 2),
        (Heun(), 2),
        (PLMS(4, variable=True), 0.3),
        (GradientEstimation(2.0), 2 / 3),
        (GradientEstimation(2.4), 2 / 3.8),
        (HeavyBall(PLMS(4), 0.8, nesterov=True), 0.3 * 1.2 / (0.8 * 1.4)),
    ],
    ids=str,
)
def test_others(sampler, interval):
    assert real_interval(sampler) == pytest.approx(interval, rel=1e-9)


@pytest.mark.parametrize("h", [1e-3, 0.1, 0.5, 1.5])
def test_exponential_integrators(h):
    """x0 = -c z: two terms are stable while c < coth(h / 2) / 2, and momentum scales what c may be."""
    own = -math.expm1(-h)
    assert real_interval(DPMSolverPP(1), h) == pytest.approx(2, rel=1e-9)
    assert real_interval(DPMSolverPP(2), h) == pytest.approx((1 + 0.5 / math.tanh(h / 2)) * own, rel=1e-8)
    for order in (2, 3):
        plain, momentum = (real_interval(s, h) for s in (DPMSolverPP(order), HeavyBall(DPMSolverPP(order), 0.8)))
        assert momentum - own == pytest.approx((plain - own) * 1.5, rel=1e-7)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_short_steps_of_unipc_are_adams_of_one_order_more(p):
    adams = real_interval(PLMS(p + 1))
    assert real_interval(UniPC(p), 1e-4) == pytest.approx(adams, rel=2e-3)
    assert real_interval(DPMSolverPP(p), 1e-4) == pytest.approx(real_interval(PLMS(p)), rel=2e-3)


def walk(sampler, step, steps=300):
    """z' = -z from 1 with equal steps in sigma / alpha."""
    top = step * (steps + 1)
    levels = [Level(0.0, 1.0, top - step * i) for i in range(steps + 1)]
    one = torch.ones(1, dtype=torch.float64)
    return float(walked(sampler, lambda x, level: Prediction.pair(x * (1 - level.ratio), x), levels, one).abs())


@pytest.mark.parametrize(
    ("step", "sampler", "decays"),
    [
        (1.4, PLMS(2), False), (1.4, GHVB(1.5), True), (1.4, HeavyBall(PLMS(2), 0.5), True),
        (0.35, PLMS(4), False), (0.35, GHVB(3.8), True), (0.35, HeavyBall(PLMS(4), 0.8), True),
    ],
    ids=str,
)  # fmt: skip
def test_walks_decay_where_the_specification_says(step, sampler, decays):
    end = walk(sampler, step)
    assert end < 1e-1 if decays else end > 1e3
    assert (spectral_radius(sampler, step) < 1) == decays
    if not decays:  # the radius is the rate of the walk
        assert walk(sampler, step, 300) / walk(sampler, step, 280) == pytest.approx(
            spectral_radius(sampler, step) ** 20, rel=1e-6
        )


@pytest.mark.parametrize("sampler", [PLMS(3), GHVB(2.5), HeavyBall(PLMS(5), 0.8)], ids=str)
def test_walks_turn_at_the_interval(sampler):
    interval = real_interval(sampler)
    assert walk(sampler, 0.97 * interval, 1500) < 1e-3 < 1e3 < walk(sampler, 1.03 * interval, 1500)


def test_a_sampler_without_numbers_is_refused():
    with pytest.raises(ValueError, match=r"AdaptiveStep.* has no table of numbers; allowed"):
        real_interval(AdaptiveStep())

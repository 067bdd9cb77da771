"""Upward: steps, memory and first and last steps of samplers that go from data to noise."""

import math

import pytest
import torch

from sfumato.samplers import (
    DDIM,
    GHVB,
    PLMS,
    AdaptiveStep,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    GradientEstimation,
    HeavyBall,
    Heun,
    State,
    UniPC,
    on_path,
    trajectory,
)
from sfumato.schedules import Cosine, Level, Prediction
from sfumato.tools.orders.inversion import INVERTED, inversion_errors
from sfumato.tools.orders.measure import fitted
from sfumato.tools.orders.paths import PATHS

MEAN, STD = 0.3, 0.5


def gaussian(x, level):
    """The exact denoiser of N(0.3, 0.5^2), without a division by sigma: regular at data, as a v network is."""
    at = level.like(x)
    variance = (at.alpha * STD) ** 2 + at.sigma**2
    apart = x - at.alpha * MEAN
    return Prediction.pair(MEAN + at.alpha * STD**2 / variance * apart, at.sigma / variance * apart)


def end(sampler, levels, x, as_written=False):
    with torch.no_grad():
        *_, last = trajectory(sampler, gaussian, levels, x, as_written=as_written)
    return last.x


FIRST = [DDIM(), Euler(), GradientEstimation(), HeavyBall(), HeavyBall(DPMSolverPP(2))]
# out of exact data a step is infinite for a method in log-SNR, and DDIM's leaves an error of g^2, of order 1 where g^2 grows like t
HIGHER = [
    Heun(), DPMSolver2(), DPMSolver2(r=0.3), DPMSolverPP2S(), DPMSolverPP(2), DPMSolverPP(3), UniPC(1), UniPC(2), UniPC(3),
    PLMS(2), PLMS(4), PLMS(3, variable=True), PLMS(4, variable=True, warm_up="rk4"), GHVB(3.8),
]  # fmt: skip


@pytest.mark.parametrize("sampler", [*FIRST, *HIGHER, AdaptiveStep(1e-4)], ids=str)
@pytest.mark.parametrize(("low", "high"), [(8.0, -6.0), (math.inf, -6.0), (8.0, -math.inf), (math.inf, -math.inf)])
def test_from_data_to_noise(sampler, low, high):
    """Any sampler, from a noise level or from exact data, to one or to pure noise, against the closed form; as a table and as written."""
    schedule = Cosine()
    first, last = (schedule.at_log_snr(v).t for v in (low, high))
    on = on_path(sampler, schedule)
    errors, steps = [], (32, 128)
    for n in steps:
        levels = [schedule(first + (last - first) * i / n) for i in range(n + 1)]
        bottom, top = levels[0], levels[-1]
        x = bottom.alpha * torch.tensor([[-0.5], [0.1], [1.0]], dtype=torch.float64)
        share = (x - bottom.alpha * MEAN) / math.hypot(bottom.alpha * STD, bottom.sigma)
        exact = top.alpha * MEAN + share * math.hypot(top.alpha * STD, top.sigma)
        ours = end(on, levels, x)
        assert torch.allclose(ours, end(on, levels, x, as_written=True), rtol=0, atol=1e-12)
        errors.append(float((ours - exact).abs().max()))
    if sampler in FIRST:
        assert fitted(errors, steps) > 0.85
    elif low < math.inf and not isinstance(sampler, AdaptiveStep):
        assert fitted(errors, steps) > 1.5
    assert errors[-1] < (3e-2 if sampler in FIRST else 4e-3)


@pytest.mark.parametrize("name", list(INVERTED))
@pytest.mark.parametrize("path", ["vp", "ve"])
def test_round_trips(name, path):
    """Data to noise against the truth, and back to the data: the orders that `sfumato orders` holds them to, at fewer steps."""
    sampler, expected = INVERTED[name]
    steps = (32, 64, 128)
    errors = inversion_errors(PATHS[path], sampler, steps)["mixture"]
    assert fitted(errors["up"], steps) == pytest.approx(expected[path][0], abs=0.25)
    if (name, path) != ("DPMSolverPP(2)", "vp"):  # passes zero
        assert fitted(errors["back"], steps) == pytest.approx(expected[path][1], abs=0.25)
    assert errors["back"][-1] < (3e-2 if name == "DDIM()" else 2e-3)


UNEVEN = [-3.0, -2.2, -1.7, -0.6]


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize(
    ("sampler", "terms"),
    [(DPMSolverPP(3), 3), (DPMSolverPP(2, solver="heun"), 2), (UniPC(2, "solved"), 2), (UniPC(3), 3)],
    ids=str,
)
def test_exact_for_polynomials_in_both_directions(sampler, terms, upward):
    """x0 a power of half log-SNR: e^l z' has a closed form, which a method with enough memory meets on uneven steps of either sign."""
    readings = UNEVEN[::-1] if upward else UNEVEN
    levels = [Level(0.0, 1.0, math.exp(-v)) for v in readings]
    power = terms - 1
    data = [torch.tensor([v**power], dtype=torch.float64) for v in readings]

    def integral(v):
        """P with P + P' = v^power, so that z - P decays as e^-l."""
        return {1: v - 1, 2: v * v - 2 * v + 2}[power]

    z0 = torch.tensor([0.7], dtype=torch.float64)
    exact = [integral(v) + math.exp(readings[0] - v) * (z0 - integral(readings[0])) for v in readings]
    x = exact[2]
    if isinstance(sampler, UniPC):  # where the step before began, and x0 there and before
        memory = (exact[1], data[1], data[0])[: terms + 1]
    else:
        memory = (data[1], data[0])[: terms - 1]
    answer = Prediction.pair(data[2], (x - data[2]) / levels[2].sigma)
    state, _ = sampler.step(State(x, memory), lambda x, level: answer, levels, ())
    assert torch.allclose(state.x, exact[3], rtol=0, atol=1e-12)


@pytest.mark.parametrize("upward", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_adams_is_exact_for_polynomials_in_both_directions(order, upward):
    ratios = [0.2, 0.5, 1.4, 1.9, 3.0][:: 1 if upward else -1]
    levels = [Level(0.0, 1.0, g) for g in ratios]
    eps = [torch.tensor([g ** (order - 1)], dtype=torch.float64) for g in ratios]
    x = torch.tensor([0.7], dtype=torch.float64)
    answer = Prediction.pair(x - ratios[3] * eps[3], eps[3])
    memory = tuple(eps[2::-1][: order - 1])
    state, _ = PLMS(order, variable=True).step(State(x, memory), lambda x, level: answer, levels, ())
    assert torch.allclose(state.x, x + (ratios[4] ** order - ratios[3] ** order) / order, rtol=0, atol=1e-12)

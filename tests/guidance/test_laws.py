"""The distributions that guidance samples, exactly: variances of linear walks, extrapolated to steps of no length."""

import math

import pytest
import torch
from guided import Net, branches, guided
from scipy.integrate import quad

from sfumato.guidance import CFG, Field, Plain
from sfumato.samplers import DDIM, DDPM, DPMSolverPP, Euler, Heun, Langevin, PredictorCorrector
from sfumato.schedules import EDM, Eps, Flow, Level, V

GAMMAS = (1.5, 2.0, 3.0, 5.0, 7.5)
# gamma -> the law to its power, CFG under the ODE, CFG under the SDE, as in the specification's table
TABLE = {
    1.5: (0.8, 0.70710678, 0.75),
    2.0: (0.66666667, 0.5, 0.58333333),
    3.0: (0.5, 0.25, 0.3875),
    5.0: (0.33333333, 0.0625, 0.22178819),
    7.5: (0.23529412, 0.01104854, 0.14284842),
}
WIDE = (1e4, 3e-5)


def grid(steps, high=80.0, low=0.002):
    """steps in log g, then data."""
    return [Level(i / steps, 1.0, high * (low / high) ** (i / steps)) for i in range(steps + 1)] + [
        Level(1.0, 1.0, 0.0)
    ]


def variance(sampler, rule, levels, net=None):
    """Exact: every step of a sampler without memory is x' = a x + sum b z, and one walk of draws + 1 samples reads off a and all b."""
    n = sampler.draws
    x = torch.zeros(n + 1, 1, dtype=torch.float64)
    x[0] = 1.0
    z = [torch.zeros_like(x) for _ in range(n)]
    for d in range(n):
        z[d][d + 1] = 1.0
    found, before, steps = levels[0].sigma ** 2 + 2.0, x, []
    guided(sampler, rule, levels, x, net, lambda i, d: z[d], steps=steps)
    for step in steps:
        a = step.x[0] / before[0]
        b = step.x[1:] - a * before[1:]
        found, before = float(a) ** 2 * found + float(b.square().sum()), step.x
    return found


STEPS = (60, 90, 120, 180, 240, 360, 480, 720)


def limit(values, steps=STEPS):
    """Of values whose error is a power series in 1 / steps: the polynomial through them all, at 0 (Neville)."""
    row, h = list(values), [1.0 / n for n in steps]
    for k in range(1, len(h)):
        row = [(h[i] * row[i + 1] - h[i + k] * row[i]) / (h[i] - h[i + k]) for i in range(len(h) - k)]
    return row[0]


def test_the_table_is_its_closed_forms():
    for gamma, (power, ode, sde) in TABLE.items():
        assert power == pytest.approx(2 / (gamma + 1), abs=5e-9)
        assert ode == pytest.approx(2 ** (1 - gamma), abs=5e-9)
        assert sde == pytest.approx((2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1), abs=5e-9)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_cfg_under_the_ode(gamma):
    """2^(1 - gamma): not the power of the conditional law, and not what the SDE samples."""
    found = limit([variance(DDIM(), CFG(gamma), grid(n, *WIDE)) for n in STEPS])
    assert found == pytest.approx(2 ** (1 - gamma), abs=2e-8)


@pytest.mark.parametrize("row", [None, V(), Eps(), EDM(0.5), Flow()], ids=str)
@pytest.mark.parametrize("sampler", [DPMSolverPP(2), DPMSolverPP(3), Heun()], ids=str)
def test_cfg_under_the_ode_in_every_row_and_method(sampler, row):
    """Along the ODE from g to g' the map is sqrt of ((1 + g'^2) / (1 + g^2))^gamma ((2 + g'^2) / (2 + g^2))^(1 - gamma)."""
    levels, gamma = grid(400)[:-1], 3.0
    high, low = (levels[i].sigma ** 2 for i in (0, -1))
    exact = ((1 + low) / (1 + high)) ** (gamma / 2) * ((2 + low) / (2 + high)) ** ((1 - gamma) / 2)
    last, _ = guided(sampler, CFG(gamma), levels, torch.ones(1, 1, dtype=torch.float64), Net(row))
    assert float(last) == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize(
    ("sampler", "gamma"), [*((DDIM(1.0), gamma) for gamma in GAMMAS), (DDPM(), 2.0), (Euler(1.0), 7.5)], ids=str
)
def test_cfg_under_the_sde(sampler, gamma):
    """(2 - 2^(2 - 2 gamma)) / (2 gamma - 1)."""
    found = limit([variance(sampler, CFG(gamma), grid(n, *WIDE)) for n in STEPS])
    assert found == pytest.approx((2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1), abs=2e-8)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_predictor_corrector_guidance_is_cfg_under_the_sde(gamma):
    """The theorem: one Langevin step under CFG(2 gamma - 1) after each step of the conditional ODE is DDPM under CFG(gamma)."""
    sampler = PredictorCorrector(DDIM(), Langevin(), CFG(2 * gamma - 1))
    found = limit([variance(sampler, Plain(), grid(n, *WIDE)) for n in STEPS])
    assert found == pytest.approx((2 - 2 ** (2 - 2 * gamma)) / (2 * gamma - 1), abs=2e-8)


@pytest.mark.parametrize(
    ("count", "steps", "golden"),
    [
        (1, 100, 0.58000), (1, 400, 0.58199), (1, 1600, 0.58297), pytest.param(1, 6400, 0.58324, marks=pytest.mark.slow),
        (8, 100, 0.5090), (8, 400, 0.5083), pytest.param(8, 1600, 0.5082, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_predictor_corrector_guidance_at_finite_steps(count, steps, golden):
    """As recorded: towards 7 / 12 with one Langevin step per level, and near the power 1 / 2 of gamma' = 3 with eight."""
    sampler = PredictorCorrector(DDIM(), Langevin(count=count), CFG(3.0))
    assert variance(sampler, Plain(), grid(steps)) == pytest.approx(golden, abs=6e-5 if count == 8 else 8e-6)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_langevin_under_cfg_samples_the_power(gamma):
    """2 / (gamma + 1): the one law that CFG only seems to sample. 1 / variance is linear in the size of the step, so two give the limit."""
    level = Level(0.0, 1.0, 1e-4)
    field = Field(branches(Net(), 1), CFG(gamma), 1)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)

    def precision(size):
        langevin = Langevin("share", size / level.sigma**2)
        slope = float(langevin.correct(one, field, level, level, (zero,)))
        drawn = float(langevin.correct(zero, field, level, level, (one,)))
        return (1 - slope**2) / drawn**2

    assert 1 / (2 * precision(0.05) - precision(0.1)) == pytest.approx(TABLE[gamma][0], abs=1e-7)


GENERAL = ((1.0, 1.0, 0.5),), ((1.0, 0.0, 2.0),)  # conditional N(1, 1/4), unconditional N(0, 4)


@pytest.mark.parametrize(("w", "mean", "spread"), [(2.0, 1.133169, 0.015625), (4.0, 1.106234, 6.1035e-5)])
def test_general_gaussians_overshoot(w, mean, spread):
    """CFG under the ODE: variance s_c^(2 w) s_u^(2 (1 - w)), and a mean beyond the conditional one.

    The mean is the integral of the ODE's inhomogeneous part. It depends on the start by about 1 / (4 g): the recorded figures are those of
    a start at g = 1e4, and the limit at w = 2 is 1.133194.
    """

    def slope(g):
        return w * g / (0.25 + g * g) * (0.25 / (0.25 + g * g)) ** (w / 2) * (4 / (4 + g * g)) ** ((1 - w) / 2)

    steps = (120, 180, 240, 360, 480, 720, 960)
    for high in (1e4, 1e7):
        found = []
        for n in steps:
            x = torch.tensor([[0.0], [high]], dtype=torch.float64)
            last, _ = guided(DDIM(), CFG(w), grid(n, high, 1e-6), x, Net(data=GENERAL))
            found.append((float(last[0]), math.log(float(last[1] - last[0]) ** 2)))
        rest = quad(slope, 1, math.inf)[0] - quad(slope, high, math.inf)[0]
        exact = quad(slope, 0, 1)[0] + rest
        assert limit([m for m, _ in found], steps) == pytest.approx(exact, abs=1e-7)
        if high == 1e4:
            assert exact == pytest.approx(mean, abs=1e-6)
        else:
            assert limit([v for _, v in found], steps) == pytest.approx(math.log(0.25**w * 4 ** (1 - w)), abs=3e-5)
    assert 0.25**w * 4 ** (1 - w) == pytest.approx(spread, rel=1e-5)


def test_the_power_of_general_gaussians():
    """Mean 8 / 7.75 and variance 1 / 7.75 at w = 2, where the score vanishes and its slope."""
    field, level = Field(branches(Net(data=GENERAL), 3), CFG(2.0), 3), Level(0.0, 1.0, 1e-6)
    x = torch.tensor([[1.032258], [0.0], [1.0]], dtype=torch.float64)
    score = -field(x, level).eps / level.sigma
    assert float(score[0]) == pytest.approx(0.0, abs=1e-5)
    assert float(score[1] - score[2]) == pytest.approx(1 / 0.129032, rel=1e-5)

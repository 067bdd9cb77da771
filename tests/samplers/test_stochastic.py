"""Samplers that draw: pathwise convergence, stationary laws, predictor-corrector guidance; and steps that adapt."""

import math

import pytest
import torch
from oracles import Mixture

from sfumato.guidance import CFG, Branch, Field, Interval, Plain
from sfumato.samplers import (
    DDIM,
    DDPM,
    AdaptiveStep,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    Langevin,
    PredictorCorrector,
    on_path,
    trajectory,
)
from sfumato.samplers.refill import addressed, fill
from sfumato.schedules import (
    Brownian,
    Cosine,
    Explicit,
    Flow,
    LinearBeta,
    Prediction,
    RectifiedFlow,
    V,
    VarianceExploding,
    trailing,
)

SEEDS = torch.arange(200)


def end(sampler, denoise, levels, x, noise=None):
    with torch.no_grad():
        for step in trajectory(sampler, denoise, levels, x, noise):
            last = step.x
    return last


@pytest.mark.parametrize(
    "sampler", [DDIM(1.0), DDPM(), Euler(0.7), DPMSolverPP(1, 1.0), DPMSolverPP(2, 1.0), DPMSolverPP(3, 0.5), DPMSolverPP2S(1.0)], ids=str
)  # fmt: skip
def test_stochastic_samplers_converge_pathwise_along_a_brownian_motion(sampler):
    """Refined fourfold, the end moves less and less; with noise of its own for every grid it does not converge at all."""
    path = Cosine()
    sampler = on_path(sampler, path)
    x = trailing(path, 1)[0].sigma * addressed(SEEDS, torch.zeros_like(SEEDS), (1,), torch.float64)(-1, 0)
    ends, independent = {}, {}
    for n in (8, 32, 128):
        levels = [path(1 + i / n * (0.05 - 1)) for i in range(n + 1)]
        brownian = Brownian(SEEDS, 0, levels, (1,), torch.float64)
        ends[n] = end(sampler, Mixture(row=V()), levels, x, brownian)
        steps = addressed(SEEDS, torch.zeros_like(SEEDS), (1,), torch.float64)
        independent[n] = end(sampler, Mixture(row=V()), levels, x, steps)

    def apart(e, a, b):
        return float((e[a] - e[b]).square().mean().sqrt())

    assert apart(ends, 32, 128) < 0.6 * apart(ends, 8, 32)  # strong order 1/2 at least
    assert apart(ends, 32, 128) < 0.16
    assert apart(independent, 32, 128) > 0.25


def test_slots_sampled_along_brownian_motions():
    """fill(brownian=True): a slot's picture is its own in any batch, and hardly moves when steps are added."""
    path, model = Cosine(), Mixture(row=V())
    found = {}
    for n, batch in ((40, 7), (40, 3), (160, 7)):
        levels = trailing(path, n)
        done = [f.x for f in fill(DDIM(1.0), lambda s: model, levels, range(7), (2,), batch=batch, brownian=True)]
        found[n, batch] = torch.cat(done)
    assert torch.allclose(found[40, 7], found[40, 3], atol=1e-6)
    assert float((found[40, 7] - found[160, 7]).abs().median()) < 0.05
    other = torch.cat([f.x for f in fill(DDIM(1.0), lambda s: model, trailing(path, 40), range(7), (2,))])
    assert float((other - found[40, 7]).abs().median()) > 0.05


@pytest.mark.parametrize(("eta", "variance"), [(0.1, 0.526316), (0.5, 0.666667), (1.0, 1.0)])
def test_langevin_is_stationary_where_the_theory_says(eta, variance):
    """ULA on N(0, 1/2): s^2 / (1 - eta / (4 s^2)). Each step is linear, so its map on the variance is exact."""
    # data of variance 1/2 - g^2 at ratio g: the noisy variable is N(0, 1/2)
    g = 0.4
    model = Mixture((1.0,), (0.0,), (math.sqrt(0.5 - g * g),))
    level = VarianceExploding(0.01, 10.0, math.inf).at_log_snr(-2 * math.log(g))
    langevin = Langevin("share", eta / g**2)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    slope = float(langevin.correct(one, model, level, level, (zero,)))
    noise = float(langevin.correct(zero, model, level, level, (one,)))
    assert noise**2 / (1 - slope**2) == pytest.approx(variance, abs=1e-6)


def test_langevin_sizes():
    """ "removed" is what the predictor took away; "snr" is the authors' rule, per sample."""
    path = LinearBeta()
    now, nxt = path(0.6), path(0.55)
    x = torch.tensor([[0.3, -1.0, 2.0], [10.0, 0.2, -4.0]], dtype=torch.float64)
    xi = torch.tensor([[0.5, 1.5, -0.7], [0.1, -0.2, 0.4]], dtype=torch.float64)
    eps = Mixture()(x, nxt).eps
    score = -eps / nxt.sigma
    beta = now.sigma**2 - (now.alpha / nxt.alpha) ** 2 * nxt.sigma**2
    assert beta == pytest.approx(1 - (now.alpha / nxt.alpha) ** 2, abs=1e-12)  # of DDPM
    moved = Langevin().correct(x, Mixture(), now, nxt, (xi,))
    assert torch.allclose(moved, x + beta / 2 * score + math.sqrt(beta) * xi, atol=1e-12)
    far = path(0.2)  # a long step removed more than sigma^2
    capped = Langevin().correct(x, Mixture(), path(0.9), far, (xi,))
    assert torch.allclose(capped, x - far.sigma / 2 * Mixture()(x, far).eps + far.sigma * xi, atol=1e-12)
    # score_sde_pytorch: step = 2 alpha (r |noise| / |grad|)^2; x + step grad + sqrt(2 step) noise
    step = 2 * (now.alpha / nxt.alpha) ** 2 * (0.16 * xi.norm(dim=1) / score.norm(dim=1)) ** 2
    wanted = x + step[:, None] * score + (2 * step).sqrt()[:, None] * xi
    assert torch.allclose(Langevin("snr", 0.16).correct(x, Mixture(), now, nxt, (xi,)), wanted, atol=1e-12)
    alone = Langevin("snr", 0.16).correct(x[:1], Mixture(), now, nxt, (xi[:1],))
    assert torch.allclose(alone, wanted[:1], atol=1e-12)


def _branches():
    """x | c ~ N(c, 1), c ~ N(0, 1), the condition c = 0: conditional N(0, 1), unconditional N(0, 2)."""
    cond, ref = Mixture((1.0,), (0.0,), (1.0,)), Mixture((1.0,), (0.0,), (math.sqrt(2),))
    return {
        "cond": Branch(lambda x, level, c: cond(x, level)),
        "ref": Branch(lambda x, level, c: ref(x, level)),
    }


def _variance(sampler, rule, steps):
    """The variance at the end: every map is linear, so walk a unit of each noise. Log grid of sigma, 80 to 0.002, then data."""
    path = VarianceExploding(0.002, 80.0, math.inf)
    levels = Explicit([80 * (0.002 / 80) ** (i / steps) for i in range(steps + 1)], "ratio")(path, steps + 1)
    count = 1 + (steps + 1) * sampler.draws
    units = torch.eye(count, dtype=torch.float64)
    x = math.sqrt(80**2 + 2) * units[0]  # the true unguided marginal
    field = Field(_branches(), rule, count)
    total = end(sampler, field, levels, x, lambda i, d: units[1 + i * sampler.draws + d])
    return float((total**2).sum())


@pytest.mark.parametrize(("steps", "variance"), [(100, 0.58000), (400, 0.58199)])
def test_predictor_corrector_guidance_is_ddpm_under_cfg(steps, variance):
    """gamma = 2: DDIM on the conditional model, one Langevin step under CFG(2 gamma - 1); the SDE's variance is 7/12 = .58333."""
    sampler = PredictorCorrector(DDIM(), Langevin("removed"), CFG(3.0))
    assert _variance(sampler, Plain(), steps) == pytest.approx(variance, abs=2e-4)
    assert abs(_variance(sampler, Plain(), steps) - 7 / 12) < abs(variance - 7 / 12) + 2e-4
    if steps == 400:  # while DDIM under CFG(2) tends to 1/2, and DDPM to the same as this
        assert _variance(DDIM(), CFG(2.0), steps) == pytest.approx(0.492, abs=2e-3)
        assert _variance(DDIM(1.0), CFG(2.0), steps) == pytest.approx(7 / 12, abs=0.02)


def test_many_corrector_steps_sample_the_powered_law():
    """Eight Langevin steps at every level: near the gamma' = 3 power, 1/2."""
    sampler = PredictorCorrector(DDIM(), Langevin("removed", count=8), CFG(3.0))
    assert _variance(sampler, Plain(), 100) == pytest.approx(0.5090, abs=5e-4)


def test_what_a_corrector_costs_and_refuses():
    x = torch.randn(3, 2, dtype=torch.float64)
    z = lambda i, d: torch.zeros(3, 2, dtype=torch.float64)  # noqa: E731
    field = Field(_branches(), Plain(), 3)
    end(PredictorCorrector(rule=CFG(3.0), corrector=Langevin(count=2)), field, trailing(RectifiedFlow(), 5), x, z)
    assert field.spent.tolist() == [[5 + 4 * 2, 4 * 2]] * 3  # none in the step that reaches the data
    with pytest.raises(ValueError, match="no branches to guide by"):
        end(PredictorCorrector(rule=CFG(3.0)), Mixture(), trailing(LinearBeta(), 5), x, z)
    for make in (
        lambda: Langevin("norm"),
        lambda: Langevin(size=0.0),
        lambda: Langevin(count=0),
        lambda: Langevin(count=1.5),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()


PATHS = [Cosine(), LinearBeta(), RectifiedFlow(), VarianceExploding(0.002, 80.0, math.inf)]


def per_sample(x, level):
    return Mixture(row=Flow())(x, level)  # alpha and sigma are numbers that multiply x


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_adaptive_steps_keep_their_tolerance(path):
    """The end's error falls with the tolerance, from pure noise to data, on every path; more tolerance costs fewer evaluations."""
    x = path(1.0).sigma * torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    ends, counts = {}, {}
    for tolerance in (1e-2, 1e-3, 1e-4, 1e-6):
        calls = []
        sampler = AdaptiveStep(tolerance, path=path)
        denoise = lambda x, level, c=calls: c.append(1) or per_sample(x, level)  # noqa: E731
        ends[tolerance], counts[tolerance] = end(sampler, denoise, trailing(path, 1), x), len(calls)
    exact = ends[1e-6]
    error = {k: float((v - exact).abs().max()) for k, v in ends.items()}
    # the worst of nine paths, two of which pass between the modes, where errors grow
    assert error[1e-2] < 0.2
    assert error[1e-3] < 0.02
    assert error[1e-4] < 0.002
    assert counts[1e-2] < counts[1e-3] < counts[1e-4]
    many = end(DPMSolverPP(2), Mixture(row=Flow()), trailing(path, 1000), x)
    assert float((exact - many).abs().max()) < 1e-2


def test_adaptive_steps_are_each_samples_own():
    """A picture does not depend on its neighbours, and stops on the way change little."""
    path, sampler = Cosine(), AdaptiveStep(1e-3, path=Cosine())
    x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = end(sampler, per_sample, trailing(path, 1), x)
    alone = torch.cat([end(sampler, per_sample, trailing(path, 1), x[i : i + 1]) for i in range(12)])
    assert torch.allclose(whole, alone, rtol=0, atol=1e-12)
    stops = end(sampler, per_sample, trailing(path, 6), x)
    assert float((whole - stops).abs().max()) < 0.02


def test_adaptive_steps_up_and_down():
    path, sampler = Cosine(), AdaptiveStep(1e-5, path=Cosine())
    low, high = path(0.02), path(0.98)
    x = torch.tensor([[-1.2], [0.3], [0.9]], dtype=torch.float64)
    up = end(sampler, per_sample, [low, high], x)
    assert torch.allclose(end(sampler, per_sample, [high, low], up), x, rtol=0, atol=1e-3)


def test_adaptive_steps_refuse_by_name():
    path, x = Cosine(), torch.randn(2, 3, dtype=torch.float64)
    with pytest.raises(ValueError, match="limit is 3, and 2 of 2 samples"):
        end(AdaptiveStep(1e-6, 3, path), per_sample, trailing(path, 1), x)
    with pytest.raises(ValueError, match="needs to know their path"):
        end(AdaptiveStep(), per_sample, trailing(path, 1), x)
    nan = lambda x, level: Prediction.pair(x * math.nan, x)  # noqa: E731
    with pytest.raises(FloatingPointError, match="not finite near t ="):
        end(AdaptiveStep(path=path), nan, trailing(path, 1), x)
    for make in (lambda: AdaptiveStep(0.0), lambda: AdaptiveStep(math.nan), lambda: AdaptiveStep(limit=0)):
        with pytest.raises(ValueError, match="allowed"):
            make()


def test_adaptive_steps_measure_a_mean_over_the_sample():
    """The same numbers tiled to a larger picture are walked in the same steps."""
    path = Cosine()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    counts, ends = [], []
    for tiled in (x, x.repeat(1, 40).view(5, 4, 30)):
        calls = []
        denoise = lambda x, level, c=calls: c.append(1) or per_sample(x, level)  # noqa: E731
        ends.append(end(AdaptiveStep(1e-3, path=path), denoise, trailing(path, 1), tiled))
        counts.append(len(calls))
    assert counts[0] == counts[1]
    assert torch.allclose(ends[1].reshape(5, 120)[:, :3], ends[0], rtol=0, atol=1e-9)


def test_the_length_of_a_step_carries_over_the_levels_of_a_grid():
    """Stops cost little where the steps between them are longer than the tolerance's, and a step that a stop cut short shortens none."""
    path, counts = Cosine(), {}
    x = torch.randn(16, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for steps in (1, 5, 10):
        calls = []
        denoise = lambda x, level, c=calls: c.append(1) or per_sample(x, level)  # noqa: E731
        end(AdaptiveStep(path=path), denoise, trailing(path, steps), x)
        counts[steps] = len(calls)
    assert counts[5] <= counts[1] + 5 * 4
    assert counts[10] <= counts[1] + 10 * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_adaptive_steps_in_other_dtypes(dtype):
    """x keeps its dtype, also beside a network in float64; half precision limits the answers, not the steps."""
    path, calls = Cosine(), []
    x = torch.linspace(-2, 2, 9)[:, None].to(dtype)
    denoise = lambda x, level: calls.append(1) or per_sample(x.double(), level)  # noqa: E731
    found = end(AdaptiveStep(path=path), denoise, trailing(path, 1), x)
    assert found.dtype == dtype
    assert len(calls) < 80
    exact = end(AdaptiveStep(1e-5, path=path), per_sample, trailing(path, 1), x.double())
    assert float((found.double() - exact).abs().median()) < 0.02
    flat = end(
        AdaptiveStep(path=path), per_sample, trailing(path, 1), x[:, 0].double()
    )  # without dimensions of its own
    assert torch.allclose(flat, end(AdaptiveStep(path=path), per_sample, trailing(path, 1), x.double())[:, 0])


def test_langevins_norms_without_dimensions_are_per_sample():
    path = LinearBeta()
    x, xi = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64), torch.tensor([0.5, 1.5, -0.7], dtype=torch.float64)
    whole = Langevin("snr", 0.16).correct(x, Mixture(), path(0.6), path(0.55), (xi,))
    alone = [
        Langevin("snr", 0.16).correct(x[i : i + 1], Mixture(), path(0.6), path(0.55), (xi[i : i + 1],))
        for i in range(3)
    ]
    assert torch.allclose(whole, torch.cat(alone), rtol=0, atol=1e-14)


def test_a_correctors_rule_decides_by_the_level_it_is_at():
    """The step begins outside of the interval and ends inside: the corrector is guided."""
    path = VarianceExploding(0.01, 40.0, math.inf)
    levels = [path.at_log_snr(-2 * math.log(g)) for g in (6.4, 1.01)]
    field = Field(_branches(), Plain(), 2)
    sampler = PredictorCorrector(rule=Interval(CFG(3.0), 0.2, 1.5))
    end(
        sampler,
        field,
        levels,
        torch.randn(2, 1, dtype=torch.float64),
        lambda i, d: torch.zeros(2, 1, dtype=torch.float64),
    )
    assert field.spent.tolist() == [[2, 1]] * 2


def test_brownian_noise_is_for_those_who_draw():
    with pytest.raises(ValueError, match="brownian is true, but DDIM"):
        list(fill(DDIM(), lambda s: Mixture(row=V()), trailing(Cosine(), 4), range(2), (2,), brownian=True))

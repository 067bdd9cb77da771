"""Parity: k-diffusion and the momentum paper's released code (stored values), diffusers (run here)."""

import json
import math
from pathlib import Path

import pytest
import torch
from oracles import Mixture

from sfumato.samplers import (
    DDIM,
    DDPM,
    GHVB,
    PLMS,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    HeavyBall,
    Heun,
    trajectory,
)
from sfumato.samplers.ghvb import split_order
from sfumato.schedules import Cosine, Level, Prediction, V, VarianceExploding, trailing

GOLDEN = Path(__file__).parents[1] / "golden"


def end(sampler, denoise, levels, x, noise=None):
    with torch.no_grad():
        for step in trajectory(sampler, denoise, levels, x, noise):
            last = step.x
    return last


K = json.loads((GOLDEN / "k_diffusion.json").read_text())


# a path of the same levels, for samplers that ask between them
EXPLODING = VarianceExploding(0.001, 100.0, math.inf)
THEIRS = {
    "euler": Euler(),
    "euler_ancestral.eta0": Euler(),
    "heun": Heun(),
    "lms": PLMS(4, variable=True),
    "dpm_2": DPMSolver2(path=EXPLODING),
    "dpmpp_2s_ancestral.eta0": DPMSolverPP2S(path=EXPLODING),
    "dpmpp_2m": DPMSolverPP(2),
    "dpmpp_2m_sde.eta0": DPMSolverPP(2),
    "dpmpp_3m_sde.eta0": DPMSolverPP(3, solver="heun", legacy=True),
}


@pytest.mark.parametrize("grid", ["log12", "karras12"])
@pytest.mark.parametrize("name", THEIRS)
def test_k_diffusion(name, grid):
    levels = [Level(0.0, 1.0, g) for g in K["grids"][grid]]
    x = torch.tensor(K["problem"]["z0"], dtype=torch.float64)
    wanted = torch.tensor(K["results"][f"k_diffusion.sample_{name}.{grid}"], dtype=torch.float64)
    assert torch.allclose(end(THEIRS[name], Mixture(), levels, x), wanted, rtol=1e-12, atol=0)


def test_every_stored_value_of_k_diffusion_is_compared():
    assert {n.removeprefix("k_diffusion.sample_").rpartition(".")[0] for n in K["results"]} == set(THEIRS)


def _table():
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)


def _levels(abar, steps):
    """The trailing grid of a 1000-entry table, ended at data."""
    index = [round(1000 - i * 1000 / steps) - 1 for i in range(steps)]
    levels = [Level(i / 1000, math.sqrt(float(abar[i])), math.sqrt(1 - float(abar[i]))) for i in index]
    return index, [*levels, Level(0.0, 1.0, 0.0)]


M = json.loads((GOLDEN / "momentum.json").read_text())


@pytest.mark.parametrize("name", M["results"])
def test_momentum_of_the_authors(name):
    kind, order, steps = name.split(".", 1)[0], name.split("order")[1].rsplit(".N", 1)[0], int(name.rsplit("N", 1)[1])
    _, levels = _levels(_table(), steps)
    k, beta = split_order(float(order))
    sampler = GHVB(float(order)) if kind == "GHVB" else HeavyBall(PLMS(k), beta, nesterov=kind == "Nesterov")
    x = torch.tensor(M["problem"]["x_start"], dtype=torch.float64)
    wanted = torch.tensor(M["results"][name], dtype=torch.float64)
    assert torch.allclose(end(sampler, Mixture(), levels, x), wanted, rtol=1e-12, atol=0)


def _diffusers_walk(scheduler, index, x, noise):
    """diffusers' own loop on the exact eps of the mixture."""
    abar = scheduler.alphas_cumprod
    for k, i in enumerate(index):
        level = Level(0.0, math.sqrt(float(abar[i])), math.sqrt(1 - float(abar[i])))
        x = scheduler.step(Mixture()(x, level).eps, i, x, **noise(k)).prev_sample
    return x


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_of_diffusers(eta):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    theirs.set_timesteps(10)
    theirs.alphas_cumprod, theirs.final_alpha_cumprod = _table(), torch.tensor(1.0, dtype=torch.float64)
    index, levels = _levels(theirs.alphas_cumprod, 10)
    assert theirs.timesteps.tolist() == index
    z = torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([-1.6, -0.4, 0.3, 1.2], dtype=torch.float64)
    wanted = _diffusers_walk(theirs, index, x, lambda k: {"eta": eta, "variance_noise": z[k]})
    assert torch.allclose(end(DDIM(eta), Mixture(), levels, x, lambda i, d: z[i]), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_of_diffusers(variance, monkeypatch):
    import diffusers.schedulers.scheduling_ddpm as module

    theirs = module.DDPMScheduler(variance_type=f"fixed_{variance}", clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(10)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    theirs.betas, theirs.alphas_cumprod, theirs.one = (
        betas,
        (1 - betas).cumprod(0),
        torch.tensor(1.0, dtype=torch.float64),
    )
    index, levels = _levels(theirs.alphas_cumprod, 10)
    z = torch.randn(10, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([[-1.6, -0.4, 0.3, 1.2]], dtype=torch.float64)
    draws = iter(z[:, None])
    monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: next(draws))
    wanted = _diffusers_walk(theirs, index[:-1], x, lambda k: {})
    assert torch.allclose(
        end(DDPM(variance), Mixture(), levels[:-1], x, lambda i, d: z[i, None]), wanted, rtol=0, atol=1e-12
    )
    # the step that reaches the data draws no noise; diffusers draws sqrt(beta) there ("large"), as its index is 99 and not 0
    last = end(DDPM(variance), Mixture(), levels, x, lambda i, d: z[i, None])
    theirs_last = theirs.step(Mixture()(wanted, levels[-2]).eps, index[-1], wanted).prev_sample
    assert torch.allclose(last, Mixture()(wanted, levels[-2]).x0, rtol=0, atol=1e-12)
    assert (
        float((theirs_last - last).abs().max()) < 1e-9
        if variance == "small"
        else float((theirs_last - last).abs().max()) > 0.05
    )


@pytest.mark.parametrize(
    ("sampler", "variance"),
    [
        (DDIM(0.0), 0.13686656),
        (DDIM(0.5), 0.13219353),
        (DDIM(1.0), 0.11120562),
        (DDPM("small"), 0.11120562),
        (DDPM("large"), 0.24393807),
    ],
    ids=str,
)
def test_final_variance_on_a_gaussian(sampler, variance):
    """Data N(0, 1/4), DDPM's linear table, ten trailing steps: every map is linear, so its variance is exact arithmetic."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    _, levels = _levels((1 - betas).cumprod(0), 10)
    gaussian = Mixture((1.0,), (0.0,), (0.5,))
    # the end is a sum of coefficients times independent unit normals: walk each unit vector
    units = torch.eye(11, dtype=torch.float64)
    total = end(sampler, gaussian, levels, units[0], lambda i, d: units[i + 1])
    assert float((total**2).sum()) == pytest.approx(variance, abs=5e-9)


def test_ddpm_small_is_ddim_with_eta_one():
    _, levels = _levels(_table(), 7)
    z = torch.randn(7, 4, dtype=torch.float64)
    x = torch.randn(4, dtype=torch.float64)
    a, b = (end(s, Mixture(), levels, x, lambda i, d: z[i]) for s in (DDPM(), DDIM(1.0)))
    assert torch.allclose(a, b, rtol=0, atol=1e-13)


def test_ghvb_is_plms_at_whole_orders_and_its_rows_sum_to_one():
    from sfumato.samplers.ghvb import _row, split_order

    adams = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    adams[5] = [1901 / 720, -2774 / 720, 2616 / 720, -1274 / 720, 251 / 720]
    for k, row in adams.items():
        assert _row(k, 1.0) == pytest.approx(row, abs=1e-14)
        assert sum(_row(k, 0.3)) == pytest.approx(1.0, abs=1e-13)
    assert [split_order(o) for o in (3.8, 4.0, 0.7, 3.0005)] == [(4, pytest.approx(0.8)), (4, 1.0), (1, 0.7), (3, 1.0)]


def test_third_order_step_integrates_a_parabola_exactly():
    """Catches the missing factor 2 of published 3M code (half of the value) and its wrong sign in the SDE."""
    from sfumato.samplers.state import State
    from sfumato.schedules import Prediction

    ell = [-math.log(20) + 0.1174907 * i for i in range(4)]
    levels = [Level(0.0, 1.0, math.exp(-v)) for v in ell]
    h, now = ell[3] - ell[2], ell[2]
    D = [torch.tensor((v - now) ** 2, dtype=torch.float64) for v in ell]
    for eta in (0.0, 0.5, 1.0):
        m = 1 + eta
        exact = h * h - 2 * h / m + 2 * (1 - math.exp(-m * h)) / m**2
        zero = torch.zeros((), dtype=torch.float64)
        # z_n = 0, so eps = -D / g
        answer = Prediction.pair(D[2], (zero - D[2]) / levels[2].sigma)
        state, _ = DPMSolverPP(3, eta).step(State(zero, (D[1], D[0])), lambda x, level, p=answer: p, levels, (zero,))
        assert float(state.x) == pytest.approx(exact, rel=1e-12)


def test_learned_variance_of_diffusers(monkeypatch):
    """improved DDPM's "learned_range": the same steps from the same second answers."""
    import diffusers.schedulers.scheduling_ddpm as module

    theirs = module.DDPMScheduler(variance_type="learned_range", clip_sample=False, timestep_spacing="trailing")
    theirs.set_timesteps(10)
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    theirs.betas, theirs.alphas_cumprod, theirs.one = (
        betas,
        (1 - betas).cumprod(0),
        torch.tensor(1.0, dtype=torch.float64),
    )
    index, levels = _levels(theirs.alphas_cumprod, 10)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(10, 4, dtype=torch.float64, generator=generator)
    o = torch.randn(10, 4, dtype=torch.float64, generator=generator)
    x = wanted = torch.tensor([[-1.6, -0.4, 0.3, 1.2]], dtype=torch.float64)
    draws = iter(z[:, None])
    monkeypatch.setattr(module, "randn_tensor", lambda *a, **k: next(draws))
    for k, i in enumerate(index[:-1]):
        out = torch.cat([Mixture()(wanted, levels[k]).eps, o[k, None]], dim=1)
        wanted = theirs.step(out, i, wanted).prev_sample
    asked = iter(o)

    def denoise(x, level):
        p = Mixture()(x, level)
        return Prediction.pair(p.x0, p.eps, next(asked)[None])

    found = end(DDPM("learned"), denoise, levels[:-1], x, lambda i, d: z[i, None])
    assert torch.allclose(found, wanted, rtol=0, atol=1e-12)
    assert not torch.allclose(found, end(DDPM("small"), Mixture(), levels[:-1], x, lambda i, d: z[i, None]), atol=1e-3)
    with pytest.raises(ValueError, match="needs a network that learns its variance"):
        end(DDPM("learned"), Mixture(), levels, x, lambda i, d: z[i, None])


@pytest.mark.parametrize(("o", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_learned_variance_at_its_ends_is_a_fixed_one(o, variance):
    levels, x = trailing(Cosine(), 8), torch.tensor([[-1.6, -0.4, 0.3, 1.2]], dtype=torch.float64)
    z = torch.randn(8, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    row = Mixture(row=V())

    def denoise(x, level):
        p = row(x, level)
        return Prediction(p.x, p.level, p.out, p.row, torch.full_like(x, o))

    learned = end(DDPM("learned"), denoise, levels, x, lambda i, d: z[i])
    assert torch.allclose(learned, end(DDPM(variance), row, levels, x, lambda i, d: z[i]), rtol=0, atol=1e-12)


def test_learned_variance_with_levels_per_sample():
    """The sample that reaches its data gets no noise; the other gets its own."""
    from sfumato.samplers import State

    x, z = torch.tensor([[0.3, -0.2], [0.3, -0.2]], dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    now, nxt = (Cosine()(torch.tensor(t, dtype=torch.float64)).like(x) for t in ([0.6, 0.6], [0.0, 0.4]))

    def denoise(x, level):
        p = Mixture()(x, level)
        return Prediction.pair(p.x0, p.eps, torch.full_like(x, 1.0))

    learned, large = (DDPM(v).step(State(x), denoise, [now, nxt], (z,))[0].x for v in ("learned", "large"))
    assert torch.allclose(learned, large, atol=1e-14)
    assert torch.allclose(learned[0], Mixture()(x, now).x0[0])

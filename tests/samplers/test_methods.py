"""Each method's own truths: identities between methods, closed forms, values of the papers."""

import itertools
import math

import pytest
import torch
from oracles import Mixture, log_grid

from sfumato.samplers import (
    DDIM,
    DDPM,
    GHVB,
    PLMS,
    Churn,
    Clipped,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    GradientEstimation,
    HeavyBall,
    Heun,
    Langevin,
    PredictorCorrector,
    State,
    UniPC,
    on_path,
    tabulate,
    trajectory,
)
from sfumato.schedules import (
    Cosine,
    Karras,
    Level,
    LinearBeta,
    Prediction,
    RectifiedFlow,
    V,
    VarianceExploding,
    ZeroTerminalSNR,
    trailing,
)

START = torch.tensor([-1.6, -0.4, 0.3, 1.2], dtype=torch.float64)
NOISE = torch.randn(40, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
EXPLODING = VarianceExploding(0.002, 80.0, math.inf)


def end(sampler, denoise, levels, x, noise=lambda i, d: NOISE[i, d]):
    with torch.no_grad():
        for step in trajectory(sampler, denoise, levels, x, noise):
            last = step.x
    return last


LEVELS = [trailing(s, 9) for s in (Cosine(), LinearBeta(), RectifiedFlow(), EXPLODING, ZeroTerminalSNR(LinearBeta()))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Euler(), DDIM()),
        (Euler(0.7), DDIM(0.7)),
        (Euler(1.0), DDIM(1.0)),
        (DPMSolverPP(1), DDIM()),
        (PLMS(1), DDIM()),
        (GHVB(1.0), DDIM()),
        (GHVB(3.0), PLMS(3)),
        (GHVB(5.0), PLMS(5)),
        (GHVB(0.8), HeavyBall(PLMS(1), 0.8)),
        (GradientEstimation(1.0), DDIM()),
        (GradientEstimation(1.0, 0.5), DDIM(1.0)),
        (HeavyBall(PLMS(1), 0.6, nesterov=True), HeavyBall(PLMS(1), 1 - 0.4**2)),
        (HeavyBall(DPMSolverPP(2), 1.0), DPMSolverPP(2)),
        (HeavyBall(DPMSolverPP(3), 1.0, nesterov=True), DPMSolverPP(3)),
        (HeavyBall(PLMS(4), 1.0), PLMS(4)),
        (HeavyBall(PLMS(4, variable=True), 1.0), PLMS(4, variable=True)),
        (Churn(Heun(), 0.0), Heun()),
    ],
    ids=str,
)
@pytest.mark.parametrize("levels", LEVELS, ids=["cosine", "vp", "flow", "ve", "zero"])
def test_the_same_method_by_two_names(one, other, levels):
    if "nesterov" in str(one) and "PLMS(order=1" in str(one):
        # (1-b)((1-b)v + b f) + b f: its first step after the start is that of momentum 1 - (1-b)^2; later v differs
        levels = levels[:3]
    x = levels[0].sigma * START
    a, b = (end(s, Mixture(row=V()), levels, x) for s in (one, other))
    assert torch.allclose(a, b, rtol=0, atol=1e-12 * max(1.0, float(b.abs().max())))


def test_more_than_all_noise_is_all_noise():
    """Euler(eta) draws at most g' anew: from there on eta changes nothing, and x' is alpha' x0 + sigma' xi."""
    now, nxt = Level(0.5, 1.0, 10.0), Level(0.4, 1.0, 5.0)
    p = Mixture()(START, now)
    state, _ = Euler(3.0).step(State(START), lambda x, level: p, [now, nxt], (NOISE[0, 0],))
    assert torch.allclose(state.x, p.x0 + 5.0 * NOISE[0, 0], atol=1e-14)


@pytest.mark.parametrize(
    "sampler", [Euler(1.0), GradientEstimation(1.0, 0.5), DPMSolver2(1.0, path=EXPLODING)], ids=str
)
def test_ancestral_split(sampler):
    """From sigma 10 to 5: down to 2.5, and 4.330127 of new noise."""
    now, nxt, zero = Level(0.5, 1.0, 10.0), Level(0.4, 1.0, 5.0), torch.zeros(1, dtype=torch.float64)

    def step(x0, eps, z):
        answer = Prediction.pair(zero + x0, zero + eps)
        return float(sampler.step(State(zero), lambda x, level: answer, [now, nxt], (zero + z,))[0].x)

    assert step(1.0, 0.0, 0.0) == pytest.approx(1.0, abs=1e-12)
    assert step(0.0, 1.0, 0.0) == pytest.approx(2.5, abs=1e-12)
    assert step(0.0, 0.0, 1.0) == pytest.approx(4.330127018922193, abs=1e-12)


def test_unipc_weights_of_the_specification():
    """rho of a step of h = 1/2, previous readings one and two steps back; the mean's weights are rho's in another basis."""
    ell = [0.0, 0.5, 1.0, 1.5]
    levels = [Level(0.0, 1.0, math.exp(-v)) for v in ell]
    h, back = 0.5, [-1.0, -2.0]

    def rho(weights, nodes, variant):
        b = -h if variant == "bh1" else math.expm1(-h)
        return [-w * math.expm1(-h) * r / -b for w, r in zip(weights, nodes, strict=True)]

    # solved predictors: B is part of rho, and cancels in the step
    w2 = UniPC(2, "solved").predictor(levels[:2], levels[2], levels[3], 1)[1:]
    w3 = UniPC(3).predictor(levels[:2], levels[2], levels[3], 2)[1:]
    assert rho(w2, back[:1], "bh1") == pytest.approx([0.42612264], abs=1e-7)
    assert rho(w2, back[:1], "bh2") == pytest.approx([0.54149408], abs=1e-7)
    assert rho(w3, back, "bh1") == pytest.approx([1.14775472, -0.72163208], abs=1e-7)
    assert rho(w3, back, "bh2") == pytest.approx([1.45850592, -0.91701183], abs=1e-7)
    # published predictors of order 2 replace it by 1/2
    for variant in ("bh1", "bh2"):
        published = UniPC(2, variant).predictor(levels[:2], levels[2], levels[3], 1)[1:]
        assert rho(published, back[:1], variant) == pytest.approx([0.5], abs=1e-12)
    # correctors: (r = 1, then the past)
    c2 = UniPC(2).corrector(levels[:3], levels[3], 2)[1:]
    c3 = UniPC(3).corrector(levels[:3], levels[3], 3)[1:]
    assert rho(c2, [1.0, -1.0], "bh1") == pytest.approx([0.36081604, 0.0653066], abs=1e-7)
    assert rho(c2, [1.0, -1.0], "bh2") == pytest.approx([0.45850592, 0.08298817], abs=1e-7)
    assert rho(c3, [1.0, -1.0, -2.0], "bh2") == pytest.approx([0.4163215, 0.20954142, -0.08436884], abs=1e-7)


@pytest.mark.parametrize(
    ("sampler", "wanted"),
    [
        (DPMSolverPP(2, solver="heun"), 0.0408182207),
        (DPMSolverPP(2), 0.0388772669),
        (UniPC(2, "solved"), 0.0408182207),
        (UniPC(2, "bh2"), 0.0388772669),
    ],
    ids=str,
)
def test_a_step_on_a_linear_answer(sampler, wanted):
    """D = ell - ell_n, h = .3 after a step of .4: exactly h - 1 + e^-h, where the two-point mean is solved for."""
    ell = [-0.4, 0.0, 0.3]
    levels = [Level(0.0, 1.0, math.exp(-v)) for v in ell]
    zero = torch.zeros((), dtype=torch.float64)
    answer = Prediction.pair(zero, zero)  # D_n = 0, z_n = 0
    memory = (zero, zero - 0.4) if isinstance(sampler, UniPC) else (zero - 0.4,)
    if isinstance(sampler, UniPC):  # its corrector must find nothing to correct: x as it would be
        w = sampler.corrector(levels[:1], levels[1], 1)
        start = -(1 - math.exp(-0.4)) * (w[0] * -0.4 + w[1] * 0.0) / math.exp(-0.4)
        memory = (zero + start, zero - 0.4)
    state, _ = sampler.step(State(zero, memory), lambda x, level: answer, levels, ())
    assert float(state.x) == pytest.approx(wanted, abs=2e-10)


@pytest.mark.parametrize(("solver", "eta"), [("heun", 0.0), ("midpoint", 0.0), ("heun", 1.0)])
def test_legacy_third_order_halves_the_curvature(solver, eta):
    """As published: a parabola gives half of its exact integral."""
    ell = [-math.log(20) + 0.1174907 * i for i in range(4)]
    levels = [Level(0.0, 1.0, math.exp(-v)) for v in ell]
    D = [torch.tensor((v - ell[2]) ** 2, dtype=torch.float64) for v in ell]
    zero, m, h = torch.zeros((), dtype=torch.float64), 1 + eta, ell[3] - ell[2]
    answer = Prediction.pair(D[2], zero)
    sampler = DPMSolverPP(3, eta, solver, legacy=True)
    state, _ = sampler.step(State(zero, (D[1], D[0])), lambda x, level: answer, levels, (zero,))
    exact = h * h - 2 * h / m + 2 * (1 - math.exp(-m * h)) / m**2
    # eps is 0 here, so z_n = D_n = 0
    assert float(state.x) == pytest.approx(exact / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("sampler", "std", "steps", "ratio"),
    [
        (Euler(), 0.5, 10, 0.73044040), (Euler(), 0.5, 18, 0.84607940), (Euler(), 0.5, 32, 0.91240273), (Euler(), 0.5, 64, 0.95588717),
        (Heun(), 0.5, 10, 1.21961982), (Heun(), 0.5, 18, 1.05526988), (Heun(), 0.5, 32, 1.01569586), (Heun(), 0.5, 64, 1.00366246),
        (Heun(), 1.0, 18, 1.04481046), (Heun(), 1.0, 32, 1.01279536),
    ],
)  # fmt: skip
def test_edm_on_a_gaussian(sampler, std, steps, ratio):
    """The end over the exact end, Karras grid 80 to 0.002 and data."""
    levels = Karras(0.002, 80.0)(VarianceExploding(0.002, 80.0, 7.0), steps)
    z = end(sampler, Mixture((1.0,), (0.0,), (std,)), levels, torch.ones(1, dtype=torch.float64))
    exact = std / math.sqrt(std**2 + 80.0**2)
    assert float(z) / exact == pytest.approx(ratio, abs=2e-8)


def _edm(denoise, sigmas, x, churn, low, high, noise):
    """Algorithm 2 of Karras et al. 2022, line by line."""
    steps = len(sigmas) - 1
    for i in range(steps):
        t, nxt = sigmas[i], sigmas[i + 1]
        gamma = min(churn / steps, math.sqrt(2) - 1) if low <= t <= high else 0.0
        hat = min(t + gamma * t, sigmas[0])
        x_hat = x + math.sqrt(hat**2 - t**2) * noise * NOISE[i, 0]
        d = (x_hat - denoise(x_hat, Level(0.0, 1.0, hat)).x0) / hat
        x = x_hat + (nxt - hat) * d
        if nxt:
            d2 = (x - denoise(x, Level(0.0, 1.0, nxt)).x0) / nxt
            x = x_hat + (nxt - hat) * (d + d2) / 2
    return x


@pytest.mark.parametrize(("churn", "low", "high", "noise"), [(40.0, 0.05, 50.0, 1.003), (10.0, 0.0, math.inf, 1.0)])
def test_churn_is_algorithm_2(churn, low, high, noise):
    path, steps = VarianceExploding(0.002, 80.0, 7.0), 18
    levels = Karras(0.002, 80.0)(path, steps)
    sampler = Churn(Heun(), min(churn / steps, math.sqrt(2) - 1), low, high, noise, path)
    wanted = _edm(Mixture(), [level.sigma for level in levels], 80 * START, churn, low, high, noise)
    assert torch.allclose(end(sampler, Mixture(), levels, 80 * START), wanted, rtol=1e-9, atol=0)


def test_churn_goes_up_on_the_path():
    """On a variance-preserving path the raised level lies on it, and unit-variance data stay of unit variance."""
    path, asked = Cosine(), []

    def denoise(x, level):
        asked.append(level)
        return Prediction(x, level, torch.zeros_like(x), V())

    levels = trailing(path, 10)
    end(Churn(Euler(), 0.3, 0.1, 5.0, 1.0, path), denoise, levels, START)
    raised = [a.ratio / level.ratio for a, level in zip(asked[1:], levels[1:-1], strict=True)]
    inside = [0.1 <= level.ratio <= 5.0 for level in levels[1:-1]]
    assert raised == pytest.approx([1.3 if i else 1.0 for i in inside], rel=1e-9)
    assert all(path(a.t).alpha == pytest.approx(a.alpha, abs=1e-9) for a in asked)


@pytest.mark.parametrize("sampler", [DPMSolver2(), DPMSolverPP2S(), PLMS(4, warm_up="rk4"), Churn()], ids=str)
def test_between_the_levels_a_path_is_needed(sampler):
    levels, x = trailing(LinearBeta(), 6), START
    with pytest.raises(ValueError, match="needs to know their path"):
        end(sampler, Mixture(), levels, x)
    from dataclasses import replace

    with pytest.raises(ValueError, match="does not lie on it"):
        end(replace(sampler, path=RectifiedFlow()), Mixture(), levels, x)


def test_runge_kutta_starts_are_worth_their_order():
    """With four evaluations in each of its first steps, variable PLMS keeps order 4 where a cold start loses it."""
    z0, ends = 20 * START, {}
    for n in (128, 256, 2048):
        for warm_up in ("euler", "rk4"):
            sampler = PLMS(4, True, warm_up, EXPLODING)
            ends[warm_up, n] = end(sampler, Mixture(), log_grid(20, 0.02, n), z0)
    exact = ends["rk4", 2048]
    error = {k: float((v - exact).abs().max()) for k, v in ends.items()}
    assert math.log2(error["rk4", 128] / error["rk4", 256]) > 3.7
    assert math.log2(error["euler", 128] / error["euler", 256]) < 3.4


def test_alpha_blending_is_ddim_on_the_straight_path():
    """IADB: x += (a' - a) d with d = x1 - x0, a going from 0 to 1."""
    levels, model = trailing(RectifiedFlow(), 12), Mixture(row=V())
    x = START
    for now, nxt in itertools.pairwise(levels):
        p = model(x, now)
        x = x + (nxt.alpha - now.alpha) * (p.x0 - p.eps)
    assert torch.allclose(end(DDIM(), model, levels, START), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("variance", "wanted"), [("small", 0.24612521), ("large", 0.25075201)])
def test_a_thousand_ancestral_steps_on_a_gaussian(variance, wanted):
    """Data N(0, 1/4), DDPM's linear table from variance 1: the small variance ends below 1/4, the large one above."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    abar = (1 - betas).cumprod(0).tolist()
    levels = [Level(0.0, math.sqrt(a), math.sqrt(1 - a)) for a in reversed(abar)] + [Level(0.0, 1.0, 0.0)]
    model, total = Mixture((1.0,), (0.0,), (0.5,)), 1.0
    units = torch.eye(2, dtype=torch.float64)
    for pair in itertools.pairwise(levels):
        slope, noise = DDPM(variance).step(State(units[0]), model, pair, (units[1],))[0].x.tolist()
        total = slope**2 * total + noise**2
    assert total == pytest.approx(wanted, abs=1e-7)


def test_refusals():
    for make in (
        lambda: Euler(-0.1), lambda: Euler(math.nan), lambda: DPMSolver2(1.5), lambda: DPMSolver2(r=1.0), lambda: DPMSolverPP2S(r=0.0),
        lambda: DPMSolverPP(2, solver="rk"), lambda: DPMSolverPP(2, legacy=True), lambda: UniPC(0), lambda: UniPC(2, "bh3"),
        lambda: UniPC(2.5), lambda: PLMS(6), lambda: PLMS(4, warm_up="none"), lambda: HeavyBall(beta=0.0), lambda: HeavyBall(beta=1.1),
        lambda: HeavyBall(PLMS(4, warm_up="rk4")), lambda: HeavyBall(DPMSolverPP(2, 1.0)), lambda: HeavyBall(DPMSolverPP(1)),
        lambda: HeavyBall(DDIM()), lambda: GradientEstimation(math.inf), lambda: GradientEstimation(2.0, 1.0), lambda: Churn(gamma=0.5),
        lambda: Churn(low=2.0, high=1.0), lambda: Churn(noise=0.0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="allowed"):
            make()
    with pytest.raises(ValueError, match="which remembers something of levels"):
        end(Churn(DPMSolverPP(2), path=LinearBeta()), Mixture(), trailing(LinearBeta(), 6), START)


@pytest.mark.parametrize(
    "sampler",
    [
        DDIM(), Heun(), DPMSolver2(), DPMSolverPP2S(), DPMSolverPP(2), DPMSolverPP(3), UniPC(2), UniPC(3), HeavyBall(DPMSolverPP(2)),
        HeavyBall(DPMSolverPP(3), nesterov=True), DPMSolverPP(2, 1.0), Euler(1.0), DPMSolver2(1.0),
    ],
    ids=str,
)  # fmt: skip
def test_the_step_onto_data_returns_what_the_network_believes(sampler):
    """No momentum and no history in a step of infinite length."""
    path = LinearBeta()
    levels = trailing(path, 7)
    with torch.no_grad():
        *_, last = trajectory(on_path(sampler, path), Mixture(row=V()), levels, START, lambda i, d: NOISE[i, d])
    assert torch.allclose(last.x, last.prediction.x0, rtol=0, atol=1e-13)


def _ancestral(denoise, sigmas, x, eta):
    """k-diffusion's sample_dpm_2_ancestral and sample_dpmpp_2s_ancestral, line by line: both ends."""
    one, two = x, x
    for i in range(len(sigmas) - 1):
        now, nxt = sigmas[i], sigmas[i + 1]
        up = min(nxt, eta * (nxt**2 * (now**2 - nxt**2) / now**2) ** 0.5)
        down = (nxt**2 - up**2) ** 0.5
        d = (one - denoise(one, Level(0.0, 1.0, now)).x0) / now
        if down == 0:
            one = one + d * (down - now)
            two = denoise(two, Level(0.0, 1.0, now)).x0
            continue
        middle = math.exp((math.log(now) + math.log(down)) / 2)
        x_2 = one + d * (middle - now)
        d_2 = (x_2 - denoise(x_2, Level(0.0, 1.0, middle)).x0) / middle
        one = one + d_2 * (down - now) + NOISE[i, 0] * up
        denoised = denoise(two, Level(0.0, 1.0, now)).x0
        t, t_next = -math.log(now), -math.log(down)
        h = t_next - t
        s = t + h / 2
        x_2 = (math.exp(-s) / math.exp(-t)) * two - math.expm1(-h / 2) * denoised
        denoised_2 = denoise(x_2, Level(0.0, 1.0, math.exp(-s))).x0
        two = (math.exp(-t_next) / math.exp(-t)) * two - math.expm1(-h) * denoised_2 + NOISE[i, 0] * up
    return one, two


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_ancestral_two_stage_steps_are_k_diffusions(eta):
    sigmas = [*(20 * 0.002 ** (i / 9) for i in range(10)), 0.0]
    levels = [Level(0.0, 1.0, s) for s in sigmas]
    wanted = _ancestral(Mixture(), sigmas, 20 * START, eta)
    for sampler, want in zip(
        (DPMSolver2(eta, path=EXPLODING), DPMSolverPP2S(eta, path=EXPLODING)), wanted, strict=True
    ):
        assert torch.allclose(end(sampler, Mixture(), levels, 20 * START), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("sampler", [Churn(Heun(), 0.3, 0.1, 5.0), Churn(DDIM(0.5), 0.2, 0.0, math.inf, 1.01)], ids=str)
def test_churn_is_the_same_on_every_path(sampler):
    """In x / alpha, with the same noise: VE, VP and flow."""
    ratios = [20 * 0.002 ** (i / 11) for i in range(12)]
    ends = []
    for path in (VarianceExploding(0.01, 40.0, math.inf), LinearBeta(), RectifiedFlow()):
        levels = [path.at_log_snr(-2 * math.log(g)) for g in ratios]
        ends.append(end(on_path(sampler, path), Mixture(), levels, 20 * START * levels[0].alpha) / levels[-1].alpha)
    assert torch.allclose(ends[1], ends[0], rtol=0, atol=1e-11)
    assert torch.allclose(ends[2], ends[0], rtol=0, atol=1e-11)


def test_every_draw_is_used_once():
    """Samplers within samplers take Gaussians of their own, and keep what the inner one remembers."""
    path = LinearBeta()
    levels = trailing(path, 6)
    for sampler, draws in (
        (Churn(DDIM(0.5), 0.2, 0.0, math.inf), 2),
        (PredictorCorrector(DDIM(0.5), Langevin(count=2)), 3),
        (PredictorCorrector(Churn(DDIM(0.5), 0.2, 0.0, math.inf)), 3),
    ):
        programs = tabulate(on_path(sampler, path), levels).programs
        assert sampler.draws == draws
        asked = [{s for form, _ in p.asks for s in form.terms} | set(p.x.terms) for p in programs]
        assert all({f"z{d}" for d in range(draws)} <= used for used in asked[1:-1])
    # a corrector that does next to nothing leaves a multistep predictor as it is
    idle = PredictorCorrector(DPMSolverPP(3), Langevin("share", 1e-24))
    assert torch.allclose(
        end(idle, Mixture(), levels, START), end(DPMSolverPP(3), Mixture(), levels, START), rtol=0, atol=1e-10
    )


def test_correctors_and_their_predictors():
    """UniPC would undo them; one sample at data, another not; pure noise has nothing to correct."""
    for predictor in (UniPC(), Clipped(UniPC())):
        with pytest.raises(ValueError, match="would undo what the corrector did"):
            PredictorCorrector(predictor)
    path = Cosine()
    x, z = torch.tensor([[0.3, -0.2], [0.3, -0.2]], dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    gaussian = lambda x, level: Prediction.pair(x * level.alpha, x * level.sigma)  # noqa: E731
    mixed = [path(torch.tensor(t, dtype=torch.float64)).like(x) for t in ([0.6, 0.6], [0.0, 0.4])]
    for corrector in (Langevin(), Langevin("share", 0.1), Langevin("snr", 0.16)):
        sampler = PredictorCorrector(DDIM(), corrector)
        found = sampler.step(State(x), gaussian, mixed, (z,))[0].x
        for row, t in enumerate((0.0, 0.4)):
            alone = sampler.step(State(x[row : row + 1]), gaussian, [path(0.6), path(t)], (z[:1],))[0].x
            assert torch.allclose(found[row : row + 1], alone, rtol=0, atol=1e-12)
        up = sampler.step(State(x), gaussian, [path(0.6), path(1.0)], (z,))[0].x
        assert torch.equal(up, DDIM().step(State(x), gaussian, [path(0.6), path(1.0)], ())[0].x)


@pytest.mark.parametrize(
    "sampler", [DPMSolverPP(2), DPMSolverPP(3), PLMS(2, variable=True), UniPC(2), HeavyBall(DPMSolverPP(2))], ids=str
)
def test_equal_levels_are_named(sampler):
    path = Cosine()
    levels = [path(t) for t in (0.9, 0.5, 0.5, 0.3)]
    with pytest.raises(ValueError, match="two levels of the walk are equal, near log-SNR"):
        end(sampler, Mixture(), levels, START)


@pytest.mark.parametrize(
    "make", [lambda: DPMSolverPP(2.0), lambda: DPMSolverPP(True), lambda: PLMS(4.0), lambda: PLMS(True)]
)
def test_an_order_is_a_whole_number(make):
    with pytest.raises(ValueError, match="order is"):
        make()

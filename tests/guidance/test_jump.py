"""What CFG++ does to a walk: under every sampler, upwards, within other rules, and who refuses it."""

import inspect
import itertools
import math

import pytest
import torch
from guided import MIXTURES, Net, branches, data, grid, guided
from oracles import log_grid

import sfumato.samplers as samplers
from sfumato.guidance import (
    CFG,
    Adaptive,
    Branch,
    CFGPlusPlus,
    Field,
    Interval,
    Plain,
    Rescale,
    Threshold,
)
from sfumato.samplers import (
    DDIM,
    DDPM,
    AdaptiveStep,
    Clipped,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    Heun,
    Langevin,
    PredictorCorrector,
    Sampler,
    UniPC,
    on_path,
    trajectory,
)
from sfumato.schedules import (
    X0,
    Eps,
    Flow,
    Level,
    LinearBeta,
    Prediction,
    RectifiedFlow,
    V,
    ZeroTerminalSNR,
    trailing,
)

EVERY = [
    make()
    for name in samplers.__all__
    if inspect.isclass(make := getattr(samplers, name))
    and name not in ("Sampler", "Sampling", "State", "Step")
    and hasattr(make, "step")
] + [DDIM(1.0), Euler(1.0), DPMSolverPP(3, 1.0), DPMSolverPP2S(1.0), UniPC(3), Clipped(DPMSolverPP(2))]


def test_every_sampler_is_here():
    assert all(isinstance(s, Sampler) for s in EVERY)
    assert len({type(s) for s in EVERY}) >= 16


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_strength_zero_is_the_unconditional_sampler(sampler):
    """Bit for bit, for every sampler that there is, at one evaluation."""
    path = RectifiedFlow()
    levels, sampler = trailing(path, 7), on_path(sampler, path)
    x = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    z = torch.randn(7, 4, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for per in ("step", "noise"):
        a, field = guided(
            sampler, CFGPlusPlus(0.0, per=per), levels, x, Net(V(), MIXTURES), lambda i, d: z[i, d], m=0.3
        )
        b, plain = guided(sampler, Plain(), levels, x, Net(V(), MIXTURES), lambda i, d: z[i, d], m=math.nan)
        assert torch.equal(a, b)
        assert field.spent[:, 0].tolist() == [0] * 4
        assert torch.equal(field.spent[:, 1], plain.spent[:, 0])


REFUSED = (AdaptiveStep, Clipped, PredictorCorrector, UniPC)


@pytest.mark.parametrize("sampler", EVERY, ids=str)
def test_where_both_branches_are_one_point_each(sampler):
    """Data u without a condition, c with: every method walks to u exactly, so each step adds alpha' lam (c - u), whatever the method.

    Only for methods that remember nothing or data; those that remember eps remember it from where x was. Who can't is refused by name,
    as a table and as written alike.
    """
    path, lam, u, c = RectifiedFlow(), 0.6, 0.2, 0.7
    levels, sampler = grid(path), on_path(sampler, path)

    def point(at):
        return Branch(lambda x, level, _: Prediction(x, level, (x - at) / level.sigma, Flow()))

    field = Field({"cond": point(c), "ref": point(u)}, CFGPlusPlus(lam), 2)
    x = torch.tensor([[-0.4], [1.3]], dtype=torch.float64)
    zero = lambda i, d: torch.zeros_like(x)  # noqa: E731
    for written in (False, True):
        if isinstance(sampler, REFUSED):
            with (
                torch.no_grad(),
                pytest.raises(ValueError, match=r"moves x after each step of a grid \(CFGPlusPlus\); \w"),
            ):
                list(trajectory(sampler, field, levels, x, zero, as_written=written))
            continue
        if not isinstance(sampler, (DDIM, Euler, DPMSolverPP, DPMSolverPP2S, Heun)) or sampler.draws:
            continue
        z = x / levels[0].alpha
        with torch.no_grad():
            for step in trajectory(sampler, field, levels, x, zero, as_written=written):
                z = u + step.level.ratio / step.now.ratio * (z - u) + lam * (c - u)
                assert torch.allclose(step.x / step.level.alpha, z, rtol=0, atol=1e-9)


def test_a_corrector_with_a_rule_of_its_own_may_stand_beside_it():
    sampler = PredictorCorrector(DDIM(), Langevin(), CFG(2.0))
    levels, x = trailing(RectifiedFlow(), 5), torch.randn(2, 1, dtype=torch.float64)
    z = lambda i, d: torch.zeros_like(x)  # noqa: E731
    guided(sampler, CFGPlusPlus(0.6), levels, x, Net(V(), MIXTURES), z)
    with pytest.raises(ValueError, match="rule of its own"):
        guided(PredictorCorrector(DDIM(), Langevin(), CFGPlusPlus(0.6)), Plain(), levels, x, Net(V(), MIXTURES), z)


def test_inversion_line_by_line():
    """Upwards the data are the unconditional model's and the noise is guided: x' = alpha' x0_u + sigma' eps_lam."""
    levels = grid(RectifiedFlow())[:-1][::-1]
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y, net = x, Net(None, MIXTURES)
    for now, nxt in itertools.pairwise(levels):
        z, g = y / now.alpha, now.ratio
        u, c = data(z, g, math.nan), data(z, g, 0.3)
        eps_u, eps_c = (z - u) / g, (z - c) / g
        y = nxt.alpha * u + nxt.sigma * (eps_u + 0.6 * (eps_c - eps_u))
    for row in (None, V(), Eps()):
        for written in (False, True):
            net = Net(row, MIXTURES)
            last, _ = guided(DDIM(), CFGPlusPlus(0.6), levels, x, net, m=0.3, written=written)
            assert torch.allclose(last, y, rtol=0, atol=1e-9)


def test_how_far_a_round_trip_returns():
    """Data up to noise and down again, root mean square: nearer than CFG at its scale in few steps, not in many.

    CFG's error falls with the steps where it is moderate, since its ODE can be walked back; CFG++ grows stronger with each step, and has
    no ODE. So "inversion works" is a statement about 20 to 50 steps and small scales.
    """
    x = torch.linspace(-1.5, 1.8, 40, dtype=torch.float64)[:, None]

    def error(rule, steps):
        levels = log_grid(20, 0.05, steps)[::-1]
        noise, _ = guided(DDIM(), rule, levels, x, Net(None, MIXTURES), m=0.3)
        back, _ = guided(DDIM(), rule, levels[::-1], noise, Net(None, MIXTURES), m=0.3)
        return float((back - x).square().mean().sqrt())

    assert error(CFGPlusPlus(0.2), 20) == pytest.approx(0.0975, abs=1e-3)
    assert error(CFGPlusPlus(0.2), 50) == pytest.approx(0.1007, abs=1e-3)
    assert error(CFG(2.0), 50) == pytest.approx(0.1373, abs=1e-3)
    assert error(CFGPlusPlus(0.6), 50) == pytest.approx(0.4640, abs=1e-3)
    assert error(CFG(7.5), 50) == pytest.approx(0.5724, abs=1e-3)
    assert error(CFGPlusPlus(0.6), 200) == pytest.approx(0.6514, abs=1e-3)
    assert error(CFG(7.5), 200) == pytest.approx(0.4269, abs=1e-3)
    assert error(CFG(2.0), 200) == pytest.approx(0.0415, abs=1e-3)


def test_upward_and_downward_steps_of_per_sample_levels():
    """Levels of tensors: each sample moves as it would alone, one up and one down."""
    a, b = Level(0.5, 0.6, 0.8), Level(0.3, 0.8, 0.6)
    mixed = [
        Level(*(torch.tensor([u, v], dtype=torch.float64) for u, v in zip(*pair, strict=True)))
        for pair in ((a, b), (b, a))
    ]
    x = torch.tensor([[0.3], [-0.7]], dtype=torch.float64)
    both, _ = guided(DDIM(), CFGPlusPlus(0.6), mixed, x, Net(V(), MIXTURES), m=0.3)
    down, _ = guided(DDIM(), CFGPlusPlus(0.6), [a, b], x[:1], Net(V(), MIXTURES), m=0.3)
    up, _ = guided(DDIM(), CFGPlusPlus(0.6), [b, a], x[1:], Net(V(), MIXTURES), m=0.3)
    assert torch.allclose(both, torch.cat([down, up]), rtol=0, atol=1e-12)


def test_parts_of_a_batch_that_move_and_that_do_not():
    """Who moves nowhere moves to itself, on either side of `put`; `rows` takes along where a sample moves."""
    x, level = torch.randn(3, 2, dtype=torch.float64), Level(0.5, 0.6, 0.8)
    said = [Prediction(x, level, torch.randn(3, 2, dtype=torch.float64), V()) for _ in range(3)]
    moving, still, index = said[0].steered(said[1]), said[2], torch.tensor([1])
    for mine, other in ((moving, still), (still, moving), (moving, moving)):
        p = mine.put(index, other.rows(index))
        wanted = (mine.toward or mine).x0.clone()
        wanted[1] = (other.toward or other).x0[1]
        assert torch.allclose(p.toward.x0, wanted, atol=1e-12)
        walked = mine.x0.clone()
        walked[1] = other.x0[1]
        assert torch.allclose(p.x0, walked, atol=1e-12)
    assert still.put(index, still.rows(index)).toward is None


def test_a_guided_first_step_at_zero_snr():
    """At alpha = 0 the data are the means: x' = alpha' (lam m_c + (1 - lam) m_u) + sigma' x / sigma."""
    levels = trailing(ZeroTerminalSNR(LinearBeta()), 6)
    assert levels[0].alpha == 0
    x = torch.randn(4, 3, dtype=torch.float64)
    for row in (V(), X0(), Flow()):
        for written in (False, True):
            steps = []
            guided(DDIM(), CFGPlusPlus(0.6), levels, x, Net(row), m=1.5, written=written, steps=steps)
            wanted = levels[1].alpha * 0.6 * 1.5 + levels[1].sigma * x
            assert torch.allclose(steps[0].x, wanted, rtol=0, atol=1e-12)
            assert bool(torch.isfinite(steps[-1].x).all())


def test_a_step_shows_the_guided_data():
    levels, x = grid(RectifiedFlow()), torch.randn(3, 2, dtype=torch.float64)
    for written in (False, True):
        steps = []
        guided(DPMSolverPP(2), CFGPlusPlus(0.6), levels, x, Net(V(), MIXTURES), m=0.3, written=written, steps=steps)
        at = x
        for step in steps:
            z, g = at / step.now.alpha, step.now.ratio
            wanted = data(z, g, math.nan) + 0.6 * (data(z, g, 0.3) - data(z, g, math.nan))
            assert torch.allclose(step.prediction.x0, wanted, rtol=0, atol=1e-9)
            at = step.x


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(2), DPMSolverPP(3, 1.0), Heun(), DDPM()], ids=str)
def test_steps_that_are_kept_stay_as_they_are(sampler):
    """Buffers are reused: what a caller keeps is not among them."""
    levels, x = trailing(RectifiedFlow(), 12), torch.randn(3, 2, dtype=torch.float64)
    z = torch.randn(12, 3, 2, dtype=torch.float64)
    kept, copies, before = [], [], x.clone()
    field = Field(branches(Net(V(), MIXTURES), 3, 0.3), CFGPlusPlus(0.6), 3)
    with torch.no_grad():
        for step in trajectory(sampler, field, levels, x, lambda i, d: z[i]):
            kept.append((step.x, step.prediction))
            copies.append((step.x.clone(), step.prediction.x0.clone()))
            del step
    assert torch.equal(x, before)
    for (a, p), (b, x0) in zip(kept, copies, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(
            Prediction(p.x, p.level, p.out, p.row).x0, x0
        )  # solved again, from the x that it was made at


def test_gradients_flow_through_the_move():
    levels = grid(RectifiedFlow(), 4)
    x = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    field = Field(branches(Net(V(), MIXTURES), 2, 0.3), CFGPlusPlus(0.6), 2)

    def end(at):
        *_, step = trajectory(DPMSolverPP(2), field, levels, at)
        return step.x.sum()

    (slope,) = torch.autograd.grad(end(x), x)
    with torch.no_grad():
        h = torch.zeros_like(x)
        h[1, 0] = 1e-6
        wanted = (end(x + h) - end(x - h)) / 2e-6
    assert float(slope[1, 0]) == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("written", [False, True])
def test_within_other_rules(written):
    levels, x = (
        grid(RectifiedFlow()),
        torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4)),
    )
    inside = [0.2 < level.ratio <= 5.0 for level in levels[:-1]]
    walk = lambda rule: guided(DDIM(), rule, levels, x, Net(V(), MIXTURES), m=0.3, written=written)[0]  # noqa: E731
    y, r, t = x, x, x
    for (now, nxt), on in zip(itertools.pairwise(levels), inside, strict=True):
        z, g = y / now.alpha, now.ratio
        u, c = data(z, g, math.nan), data(z, g, 0.3)
        y = nxt.alpha * (u + 0.6 * (c - u)) + nxt.sigma * (z - u) / g if on else nxt.alpha * c + nxt.sigma * (z - c) / g
        z = r / now.alpha
        u, c = data(z, g, math.nan), data(z, g, 0.3)
        d = u + 0.6 * (c - u)
        r = nxt.alpha * d * (0.3 + 0.7 * c.std(1, keepdim=True) / d.std(1, keepdim=True)) + nxt.sigma * (z - u) / g
        z = t / now.alpha
        u, c = data(z, g, math.nan), data(z, g, 0.3)
        t = nxt.alpha * (u + 0.6 * (c - u)).clamp(-0.4, 0.4) + nxt.sigma * (z - u) / g
    assert torch.allclose(walk(Interval(CFGPlusPlus(0.6), 0.2, 5.0)), y, rtol=0, atol=1e-9)
    assert torch.allclose(walk(Rescale(CFGPlusPlus(0.6), 0.7)), r, rtol=0, atol=1e-9)
    assert torch.allclose(walk(Threshold(CFGPlusPlus(0.6), 0.4)), t, rtol=0, atol=1e-9)
    assert torch.equal(walk(Adaptive(CFGPlusPlus(0.6), 2.0)), walk(CFGPlusPlus(0.6)))


def test_samples_that_have_stopped_move_nowhere():
    """Adaptive(CFG++): each sample is what it is alone, guided or not, in one batch."""
    levels = grid(RectifiedFlow())
    x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    rule = Adaptive(CFGPlusPlus(0.6), 0.9973)
    for row in (None, V()):
        for written in (False, True):
            whole, field = guided(DDIM(), rule, levels, x, Net(row, MIXTURES), m=0.3, written=written)
            assert len(set(field.spent[:, 1].tolist())) > 1
            for i in range(6):
                alone, own = guided(DDIM(), rule, levels, x[i : i + 1], Net(row, MIXTURES), m=0.3, written=written)
                assert torch.allclose(whole[i : i + 1], alone, rtol=0, atol=1e-12)
                assert torch.equal(field.spent[i], own.spent[0])

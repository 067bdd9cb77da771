"""CFG++: published loops line by line, and its equivalence with CFG."""

import itertools
import math

import pytest
import torch
from guided import MIXTURES, Net, branches, data, grid, guided
from oracles import log_grid

from sfumato.guidance import (
    CFG,
    Branch,
    CFGPlusPlus,
    Field,
    equivalent_scale,
)
from sfumato.samplers import (
    DDIM,
    DDPM,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    Heun,
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
    VarianceExploding,
    ZeroTerminalSNR,
    karras,
    trailing,
)

PATHS = [LinearBeta(), RectifiedFlow(), VarianceExploding(0.002, 80.0, 7.0)]


def published(method, z, ratios, lam, xi, m=0.3):
    """The authors' loops in z = x / alpha, with D_u, D_c the predicted data."""
    before = None
    for i, (g, to) in enumerate(itertools.pairwise(ratios)):
        u, c = data(z, g, math.nan), data(z, g, m)
        guided_data, eps_u = u + lam * (c - u), (z - u) / g
        up = math.sqrt(to**2 * (g**2 - to**2) / g**2) if "ancestral" in method else 0.0
        down = math.sqrt(to**2 - up**2)
        if method in ("euler", "euler ancestral") or to == 0.0 or (method == "2m" and before is None):
            new = guided_data + down * eps_u
        elif method == "2m":
            r, keep = math.log(ratios[i - 1] / g) / math.log(g / to), to / g
            new = guided_data - keep * u + keep * z + (1 - keep) * (u - before) / (2 * r)
        else:  # 2s
            s = math.sqrt(g * down)
            z2 = s / g * z + (1 - s / g) * u
            u2, c2 = data(z2, s, math.nan), data(z2, s, m)
            new = u2 + lam * (c2 - u2) - down / g * u2 + down / g * z
        z, before = new + up * xi[i], u
    return z


METHODS = {
    "euler": Euler(),
    "euler ancestral": Euler(1.0),
    "2m": DPMSolverPP(2),
    "2s": DPMSolverPP2S(),
    "2s ancestral": DPMSolverPP2S(1.0),
}


@pytest.mark.parametrize("path", PATHS, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_published_loops(method, path):
    """On a network that is not linear; as a table and as written, in every row."""
    levels = grid(path)
    z = torch.linspace(-60, 60, 7, dtype=torch.float64)[:, None]
    xi = torch.randn(20, 7, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = published(method, z, [level.ratio for level in levels], 0.6, xi)
    assert float((wanted - published(method, z, [level.ratio for level in levels], 0.0, xi)).abs().max()) > 0.05
    sampler = on_path(METHODS[method], path)
    for row in (None, Eps(), V(), X0(), Flow()):
        for written in (False, True):
            last, field = guided(
                sampler, CFGPlusPlus(0.6), levels, levels[0].alpha * z, Net(row, MIXTURES), lambda i, d: xi[i], m=0.3, written=written
            )  # fmt: skip
            assert torch.allclose(last / levels[-1].alpha, wanted, rtol=0, atol=1e-9), (row, written)
    twice = 2 if "2s" in method else 1
    assert field.spent.tolist() == [[twice * 10 - (twice - 1)] * 2] * 7


@pytest.mark.parametrize(("lam", "end"), [(0.0, 0.9754665122), (0.6, 0.7746681058), (1.0, 0.6408025016)])
def test_golden_ddim(lam, end):
    now, nxt = (Level(t, math.sqrt(abar), math.sqrt(1 - abar)) for t, abar in ((0.5, 0.5), (0.3, 0.7)))
    said = lambda value: Branch(lambda x, level, c: Prediction(x, level, torch.full_like(x, value), Eps()))  # noqa: E731
    for sampler in (DDIM(), Euler(), DPMSolverPP(2)):
        field = Field({"cond": said(0.3), "ref": said(-0.1)}, CFGPlusPlus(lam), 1)
        with torch.no_grad():
            (step,) = trajectory(sampler, field, [now, nxt], torch.full((1, 1), 0.8, dtype=torch.float64))
        assert float(step.x) == pytest.approx(end, abs=1e-9)
    if lam:
        (w,) = equivalent_scale(lam, [now, nxt])
        assert w == pytest.approx({0.6: 1.73738635, 1.0: 2.89564392}[lam], abs=1e-8)


def test_golden_2m():
    """The paper's own, of the SDXL file; that of the SD 1.5 file would end at 1.874836666."""
    levels = [Level(g / 10, 1.0, g) for g in (10.0, 5.0, 2.0)]

    def said(first, second):
        return Branch(
            lambda x, level, c: Prediction(x, level, torch.full_like(x, first if level.sigma == 10 else second), X0())
        )

    # x at g = 10 such that z = 3 at g = 5, after a step in which both say 0.4
    start = torch.full((1, 1), 0.4 + (3 - 0.4) * 2, dtype=torch.float64)
    field = Field({"cond": said(0.4, 0.9), "ref": said(0.4, 0.5)}, CFGPlusPlus(0.6), 1)
    with torch.no_grad():
        first, second = trajectory(DPMSolverPP(2), field, levels, start)
    assert float(first.x) == pytest.approx(3.0, abs=1e-12)
    assert float(second.x) == pytest.approx(1.779657843, abs=1e-9)


@pytest.mark.parametrize(("lam", "w"), [(0.6, 1.5), (1.0, 2.5)])
def test_equivalent_scale(lam, w):
    assert equivalent_scale(lam, [Level(0.5, 1.0, 2.0), Level(0.4, 1.0, 1.2)]) == pytest.approx([w])
    assert equivalent_scale(lam, [Level(1.0, 0.0, 1.0), Level(0.5, 0.6, 0.8), Level(0.0, 1.0, 0.0)]) == [lam, lam]


@pytest.mark.parametrize("path", [*PATHS, ZeroTerminalSNR(LinearBeta())], ids=str)
def test_a_step_of_ddim_is_cfg_at_the_equivalent_scale(path):
    levels = trailing(path, 7)
    x = levels[0].sigma * torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for sampler in (DDIM(), Euler(), DPMSolverPP(1)):
        y = x
        for pair, w in zip(itertools.pairwise(levels), equivalent_scale(0.6, levels), strict=True):
            y, _ = guided(sampler, CFG(w), list(pair), y, Net(V(), MIXTURES), m=0.3)
        last, _ = guided(sampler, CFGPlusPlus(0.6), levels, x, Net(V(), MIXTURES), m=0.3)
        assert torch.allclose(last, y, rtol=0, atol=1e-9 * path(0.0).alpha * max(1.0, float(x.abs().max())))


@pytest.mark.parametrize(
    ("steps", "cfgpp", "cfg"),
    [(10, 0.6116, 0.250), (20, 0.5646, 0.361), (50, 0.1996, 0.441), (100, 0.0277, 0.470), (400, 1.5e-7, 0.492)],
)
def test_there_is_no_limit_of_small_steps(steps, cfgpp, cfg):
    """The variance at the end falls with the number of steps, without end; CFG's tends to 1 / 2. Grid: 80 to 0.002, then data."""
    levels = [*log_grid(80, 0.002, steps - 1), Level(1.0, 1.0, 0.0)]
    x = torch.full((1, 1), math.sqrt(80**2 + 1), dtype=torch.float64)
    found = {rule: float(guided(DDIM(), rule, levels, x)[0]) ** 2 for rule in (CFGPlusPlus(0.6), CFG(2.0))}
    assert found[CFGPlusPlus(0.6)] == pytest.approx(cfgpp, rel=0.04 if steps == 400 else 0, abs=6e-5)
    assert found[CFG(2.0)] == pytest.approx(cfg, abs=6e-4)


@pytest.mark.parametrize("path", [*PATHS, ZeroTerminalSNR(LinearBeta())], ids=str)
@pytest.mark.parametrize("up", [False, True])
def test_per_noise_ddim_is_cfg(path, up):
    for steps in (4, 11):
        levels = trailing(path, steps) if steps == 4 else karras(path, steps)
        levels = levels[::-1] if up else levels
        x = (
            levels[0].sigma * torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            + levels[0].alpha
        )
        for scale in (0.5, 1.0, 3.0):
            a, _ = guided(DDIM(), CFGPlusPlus(scale, per="noise"), levels, x, Net(V(), MIXTURES), m=0.3)
            b, _ = guided(DDIM(), CFG(scale), levels, x, Net(V(), MIXTURES), m=0.3)
            assert torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def test_per_noise_has_a_limit():
    """2^(1 - 2) = 1 / 2 of CFG(2), whatever extrapolates: in order 1, since what moves x after a step is of order 1."""
    for sampler in (DPMSolverPP(2), DPMSolverPP(3), Heun()):
        errors = []
        for steps in (100, 200, 400):
            x = torch.full((1, 1), math.sqrt(80**2 + 2), dtype=torch.float64)
            last, _ = guided(sampler, CFGPlusPlus(2.0, per="noise"), log_grid(80, 0.002, steps), x)
            errors.append(abs(float(last) ** 2 - 0.5))
        assert errors[2] < 0.01
        assert errors[1] / errors[2] > 1.8


def test_refusals():
    for make in (
        lambda: CFGPlusPlus(1.2),
        lambda: CFGPlusPlus(-0.1),
        lambda: CFGPlusPlus(math.nan),
        lambda: CFGPlusPlus(per="x"),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()
    with pytest.raises(ValueError, match="a finite number"):
        CFGPlusPlus(math.inf, per="noise")
    with pytest.raises(ValueError, match="allowed with per: noise"):
        CFGPlusPlus([2.0, -1.0], per="noise")
    level, x = Level(0.5, 0.6, 0.8), torch.zeros(2, 1)
    with pytest.raises(ValueError, match="nobody says"):
        Field(branches(Net(), 2), CFGPlusPlus(per="noise"), 2)(x, level)
    field = Field(branches(Net(), 2), CFGPlusPlus(per="noise"), 2)
    field.begin(level, Level(0.4, torch.tensor([0.7, 0.8]), torch.tensor([0.6, 0.5])))
    with pytest.raises(ValueError, match="one noise level per step"):
        field(x, level)


def test_per_noise_acts_as_half_the_scale_where_all_noise_is_drawn_anew():
    """A step of eta 1 is CFG at scale s with a share of s (1 - (g' / g)^2), twice 1 - g' / g in small steps."""
    x = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)[:, None]
    a, b = (RectifiedFlow().at_log_snr(-2 * math.log(g)) for g in (1.0, 1.0 - 1e-4))
    zero = lambda i, d: torch.zeros_like(x)  # noqa: E731
    for sampler, scale in ((DDIM(), 3.0), (DDIM(1.0), 1.5), (DDPM(), 1.5), (Euler(1.0), 1.5)):
        found, plain, wanted = (
            guided(sampler, rule, [a, b], x, Net(V(), MIXTURES), zero, m=0.3)[0]
            for rule in (CFGPlusPlus(3.0, per="noise"), CFG(0.0), CFG(scale))
        )
        assert torch.allclose(found - plain, wanted - plain, rtol=1e-4, atol=0)

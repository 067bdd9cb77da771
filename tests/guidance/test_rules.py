"""What all rules share: scales per picture, a learned variance, zero SNR, and paying once."""

import math

import pytest
import torch
from guided import LEVEL, MIXTURES, Net, ask, branches, guided, says

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    Branch,
    CFGPlusPlus,
    Field,
    Interval,
    Mix,
    Plain,
    Rescale,
    Threshold,
)
from sfumato.samplers import DDIM, DPMSolverPP, Langevin, PredictorCorrector, trajectory
from sfumato.schedules import (
    X0,
    Eps,
    Flow,
    LinearBeta,
    PairingError,
    Prediction,
    V,
    ZeroTerminalSNR,
    trailing,
)

RULES = [lambda w: CFG(w), lambda w: APG(w, 0.3, 1.5, -0.5), lambda w: Rescale(CFG(w)), lambda w: Adaptive(CFG(w), 0.9)]


@pytest.mark.parametrize("row", [None, V(), Eps()], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_scales_per_picture_are_separate_runs(rule, row):
    """Each picture as alone, and as often asked: one of scale 1 pays once."""
    scales, levels = [1.0, 4.0, 2.0, 0.0], trailing(LinearBeta(), 6)
    x = torch.randn(4, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole, field = guided(DPMSolverPP(2), rule(scales), levels, x, Net(row, MIXTURES), m=0.3)
    assert field.spent[0].tolist() == [6, 0]
    for i, scale in enumerate(scales):
        alone, own = guided(DPMSolverPP(2), rule(scale), levels, x[i : i + 1], Net(row, MIXTURES), m=0.3)
        assert torch.allclose(whole[i : i + 1], alone, rtol=0, atol=1e-10)
        if scale:  # CFG(0) alone need not ask cond
            assert torch.equal(field.spent[i], own.spent[0])


def test_scales_of_pictures_that_are_not_all_in_the_batch():
    x = torch.randn(2, 3, dtype=torch.float64)
    there, scales = branches(Net(V(), MIXTURES), 2, 0.3), [9.0, 2.0, 9.0, 5.0]
    field = Field(there, CFG(scales), 2, torch.tensor([3, 1]), 4)
    found = field(x, LEVEL).x0
    for i, w in enumerate((5.0, 2.0)):
        assert torch.allclose(found[i], ask(CFG(w), there, x).x0[i], atol=1e-12)
    with pytest.raises(ValueError, match=r"CFG.scale has 3 numbers for 2 picture"):
        ask(CFG([1.0, 2.0, 3.0]), there, x)
    with pytest.raises(ValueError, match=r"APG.scale has 1 numbers for 2 picture"):
        ask(APG([2.0]), there, x)
    for bad in (
        [],
        [1.0, math.inf],
        "3",
        b"3",
        None,
        True,
        ["a"],
        [[1.0]],
        {},
        torch.tensor(2.0),
        torch.tensor([1.0, 2.0]),
    ):
        with pytest.raises(ValueError, match="or a list with one per picture"):
            CFG(bad)


def test_scales_per_picture_with_a_network_in_another_dtype():
    net = Net(V(), MIXTURES)
    half = lambda x, level, c: Prediction(x, level, net(x, level, c).out.half(), V())  # noqa: E731
    x = torch.randn(3, 4)
    there = {k: Branch(half, b.condition) for k, b in branches(net, 3, 0.3).items()}
    for rule in (CFG([2.0, 1.0, 3.0]), APG([2.0, 1.0, 3.0]), Adaptive(APG([2.0, 1.0, 3.0], space=V()))):
        exact = ask(type(rule)(**vars(rule)), branches(net, 3, 0.3), x)
        assert torch.allclose(ask(rule, there, x).x0.float(), exact.x0, atol=0.02)


def test_who_guides_beside_whom_pays_once():
    """A wrapper around scales per picture asks nothing anew."""
    x, levels = torch.randn(3, 4, dtype=torch.float64), trailing(LinearBeta(), 5)
    for rule in (
        Rescale(CFG([1.0, 2.0, 3.0])),
        Threshold(Rescale(CFG([1.0, 2.0, 3.0]))),
        Adaptive(CFG([1.0, 2.0, 3.0]), 2.0),
    ):
        _, field = guided(DDIM(), rule, levels, x, Net(V(), MIXTURES), m=0.3)
        assert field.spent.tolist() == [[5, 0], [5, 5], [5, 5]]


ALL = [
    CFG(3.0), CFG([3.0, 1.0]), Mix({"cond": 3.0}), Rescale(CFG(3.0)), Threshold(CFG(3.0)), Threshold(CFG(3.0), quantile=0.9),
    APG(3.0, 0.0, 2.0, -0.5),
    CFGPlusPlus(0.6), Rescale(CFGPlusPlus(0.6)), Threshold(CFGPlusPlus(0.6)),
    Adaptive(CFG(3.0)), Interval(CFG(3.0), 0.5, 4.0), Autoguidance(2.0),
]  # fmt: skip


@pytest.mark.parametrize("rule", ALL, ids=str)
@pytest.mark.parametrize("row", [None, V()], ids=str)
def test_the_conditional_branchs_variance_passes_on(rule, row):
    def network(out, variance):
        def answer(x, level, c):
            p = Prediction(x, level, out, V(), variance)
            return p if row else Prediction.pair(p.x0, p.eps, variance)

        return answer

    g = torch.Generator().manual_seed(0)
    outs = {k: torch.randn(2, 3, generator=g) for k in ("cond", "ref", "weak")}
    said = {k: Branch(network(v, torch.full((2, 3), float(i)))) for i, (k, v) in enumerate(outs.items(), 5)}
    assert ask(rule, said, torch.randn(2, 3)).variance.tolist() == [[5.0] * 3] * 2


@pytest.mark.parametrize("row", [V(), X0(), Flow()], ids=str)
def test_every_rule_at_zero_snr(row):
    """At alpha = 0 the Gaussians' data are their means, 1.5 and 0: guided by w they are 1.5 w, and eps is x / sigma."""
    level = ZeroTerminalSNR(LinearBeta())(1.0)
    assert level.alpha == 0
    x = torch.randn(2, 4, dtype=torch.float64)
    there = {**branches(Net(row), 2, 1.5), "weak": branches(Net(row), 2, math.nan)["cond"]}
    for rule, x0 in (
        (CFG(3.0), 4.5), (CFG([3.0, 3.0]), 4.5), (Mix({"cond": 3.0}), 4.5), (Autoguidance(3.0), 4.5), (Threshold(CFG(3.0), 2.0), 2.0),
        (Threshold(CFG(3.0), 2.0, 0.9), 2.0), (APG(3.0), 1.5),
        (APG(3.0, eta=1.0), 4.5), (APG(3.0, eta=1.0, norm=1.5), 3.0), (Interval(CFG(3.0)), 4.5),
        (Interval(CFG(3.0), high=1e9), 1.5), (Adaptive(CFG(3.0)), 4.5), (CFGPlusPlus(0.5), 0.75),
    ):  # fmt: skip
        p = ask(rule, there, x, level)
        assert torch.allclose((p.toward or p).x0, torch.full_like(x, x0), atol=1e-12), rule
        assert torch.allclose(p.eps, x / level.sigma, atol=1e-12)
    # and the golden case of Rescale, whose data have spread
    for space in (X0(), row):
        a, b = row(level)
        noise = torch.linspace(-1, 2, 4, dtype=torch.float64)[None]
        outs = {
            k: a * torch.tensor([v], dtype=torch.float64) + b * noise
            for k, v in (("cond", [1, 2, 3, 4]), ("ref", [0, 1, 1, 2]))
        }
        there, at = says(row, **outs)
        assert torch.equal(at, noise)
        p = ask(Rescale(CFG(7.5), 0.7, space), there, at, level)
        if space == X0() or b == 0:  # V is -x0 here
            assert torch.allclose(
                p.x0, torch.tensor([[3.6216, 4.1045, 7.7262, 8.2091]], dtype=torch.float64), atol=5e-5
            )
        assert torch.allclose(p.eps, at, atol=1e-12)


@pytest.mark.parametrize("per", ["step", "noise"])
def test_cfg_plus_plus_per_picture_is_that_of_each(per):
    scales, x = [0.1, 0.6, 1.0], torch.randn(3, 2, dtype=torch.float64)
    levels = trailing(LinearBeta(), 5)

    def end(scale, rows):
        there = branches(Net(V()), len(rows), 0.4)
        with torch.no_grad():
            *_, last = trajectory(DPMSolverPP(2), Field(there, CFGPlusPlus(scale, per=per), len(rows)), levels, rows)
        return last.x

    together = end(scales, x)
    for i, scale in enumerate(scales):
        assert torch.allclose(together[i : i + 1], end(scale, x[i : i + 1]), atol=1e-12)


def test_a_correctors_scales_follow_their_pictures():
    """A corrector's rule has one number per picture too, and the batch holds pictures 3 and 1 of four."""
    x, levels = torch.randn(2, 2, dtype=torch.float64), trailing(LinearBeta(), 4)

    def end(rule, slots=None, count=None):
        field = Field(branches(Net(V()), 2, 0.4), Plain(), 2, slots, count)
        sampler = PredictorCorrector(DDIM(), Langevin(), rule=rule)
        with torch.no_grad():
            *_, last = trajectory(sampler, field, levels, x, lambda step, draw: 0 * x)
        return last.x

    found = end(CFG([9.0, 2.0, 9.0, 5.0]), torch.tensor([3, 1]), 4)
    assert torch.allclose(found, end(CFG([5.0, 2.0])), atol=1e-12)
    assert torch.allclose(found[0], end(CFG(5.0))[0], atol=1e-12)


@pytest.mark.parametrize(
    "outer", [Rescale, Threshold, Adaptive, Interval, lambda rule: Rescale(Threshold(Adaptive(rule)))]
)
def test_a_space_that_says_nothing_is_found_within_other_rules(outer):
    """Before any network is asked: eps says nothing where there is no data."""
    levels = trailing(ZeroTerminalSNR(LinearBeta()), 3)[:-1]
    field = Field(branches(Net(V()), 2), outer(APG(2.0, space=Eps())), 2)
    with pytest.raises(PairingError, match=r"APG.space is Eps\(\), and at t = 1 \(no data\)"):
        field.check(levels)
    Field(branches(Net(V()), 2), outer(APG(2.0, space=V())), 2).check(levels)
    Field(branches(Net(V()), 2), Interval(outer(APG(2.0, space=Eps())), high=5.0), 2).check(levels)

"""Rescale, APG, Threshold, Mix, Autoguidance, and scales per picture: golden values, closed forms, parity with diffusers."""

import itertools
import math

import numpy as np
import pytest
import torch
from diffusers.guiders.adaptive_projected_guidance import AdaptiveProjectedGuidance, MomentumBuffer
from diffusers.guiders.guider_utils import rescale_noise_cfg
from oracles import MIXTURES, Net, branches, guided

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
from sfumato.samplers import DDIM, DPMSolverPP, Heun
from sfumato.schedules import (
    EDM,
    X0,
    Eps,
    Flow,
    Level,
    LinearBeta,
    PairingError,
    Prediction,
    RectifiedFlow,
    V,
    ZeroTerminalSNR,
    trailing,
)

LEVEL = Level(0.5, 0.6, 0.8)


def says(row=None, level=LEVEL, **outs):
    """Branches that answer with given tensors, in a row or as x0 of a pair; and the x that they are asked at."""
    outs = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in outs.items()}
    x = torch.linspace(-1, 2, outs["cond"].numel(), dtype=torch.float64).view(outs["cond"].shape)

    def network(out):
        def answer(x, level, c):
            if row is None:
                return Prediction.pair(out, (x - level.alpha * out) / level.sigma)
            return Prediction(x, level, out, row)

        return answer

    return {k: Branch(network(v)) for k, v in outs.items()}, x


def ask(rule, there, x, level=LEVEL):
    return Field(there, rule, len(x))(x, level)


def in_row(p, row, level=LEVEL):
    a, b = row(level)
    return a * p.x0 + b * p.eps


# Rescale


def test_rescale_golden():
    there, x = says(X0(), cond=[[1.0, 2, 3, 4]], ref=[[0.0, 1, 1, 2]])
    assert ask(CFG(7.5), there, x).x0.tolist() == [[7.5, 8.5, 16, 17]]
    found = ask(Rescale(CFG(7.5), 0.7), there, x)
    assert torch.allclose(found.x0, torch.tensor([[3.6216, 4.1045, 7.7262, 8.2091]], dtype=torch.float64), atol=5e-5)
    assert torch.allclose(found.eps, (x - 0.6 * found.x0) / 0.8, atol=1e-12)
    assert float(ask(Rescale(CFG(7.5), 1.0), there, x).x0.std()) == pytest.approx(1.2909944487, abs=1e-9)
    assert torch.equal(ask(Rescale(CFG(7.5), 0.0), there, x).x0, ask(CFG(7.5), there, x).x0)


@pytest.mark.parametrize("space", [X0(), Eps(), V(), Flow(), EDM(0.5)], ids=str)
@pytest.mark.parametrize("row", [None, V(), Eps()], ids=str)
def test_rescale_in_any_space(space, row):
    """X (1 - phi + phi std(X_c) / std(X_w)) there, per sample, whatever the network answers in."""
    x = torch.randn(3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = branches(Net(row, MIXTURES), 3, [0.3, -0.4, 1.0])
    cond, ref = (in_row(ask(Mix({k: 1.0}) if k == "cond" else CFG(0.0), there, x), space) for k in ("cond", "ref"))
    w = ref + 4.0 * (cond - ref)
    factor = torch.stack([1 - 0.7 + 0.7 * c.std() / v.std() for c, v in zip(cond, w, strict=True)])[:, None, None]
    found = ask(Rescale(CFG(4.0), 0.7, space), there, x)
    assert torch.allclose(in_row(found, space), w * factor, rtol=1e-10, atol=1e-10)
    assert torch.allclose(0.6 * found.x0 + 0.8 * found.eps, x, atol=1e-10)
    whole = ask(Rescale(CFG(4.0), 1.0, space), there, x)
    assert torch.allclose(in_row(whole, space).flatten(1).std(1), cond.flatten(1).std(1), rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescale_is_diffusers_in_the_networks_own_row(dtype):
    """To the last bit or two: they round X phi std / std + X (1 - phi), we X (1 - phi + phi std / std)."""
    g = torch.Generator().manual_seed(0)
    cond, ref, x = (torch.randn(4, 3, 8, 8, generator=g, dtype=dtype) for _ in range(3))
    for row in (Eps(), V()):
        said = {
            k: Branch(lambda x, level, c, out=v, row=row: Prediction(x, level, out, row))
            for k, v in (("cond", cond), ("ref", ref))
        }
        found = ask(Rescale(CFG(7.5), 0.7, row), said, x)
        theirs = rescale_noise_cfg(ref + 7.5 * (cond - ref), cond, 0.7)
        assert torch.allclose(found.out, theirs, rtol=4 * torch.finfo(dtype).eps, atol=8 * torch.finfo(dtype).eps)


def test_rescale_without_spread():
    """A guided prediction without any stays; a sample of one number is refused; a rule that did not guide is left alone."""
    there, x = says(X0(), cond=[[2.0, 2.0], [1.0, 3.0]], ref=[[1.0, 1.0], [0.0, 1.0]])
    found = ask(Rescale(CFG(3.0), 1.0), there, x).x0
    assert found[0].tolist() == [4.0, 4.0]
    assert float(found[1].std()) == pytest.approx(math.sqrt(2))
    there, x = says(X0(), cond=[[2.0]], ref=[[1.0]])
    with pytest.raises(ValueError, match="a sample of one number"):
        ask(Rescale(CFG(3.0)), there, x)
    assert float(ask(Rescale(CFG(1.0)), there, x).x0) == 2.0
    for phi in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="allowed"):
            Rescale(phi=phi)


# APG


def test_apg_golden():
    there, x = says(X0(), cond=[[3.0, 4.0]], ref=[[1.0, 1.0]])
    cond = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    along, across = torch.tensor([[2.16, 2.88]]).double(), torch.tensor([[-0.16, 0.12]]).double()
    assert torch.allclose(ask(APG(2.0), there, x).x0, cond + across, atol=1e-12)
    assert torch.allclose(ask(APG(2.0, eta=1.0), there, x).x0, cond + across + along, atol=1e-12)
    assert torch.allclose(
        ask(APG(2.0, eta=1.0, norm=2.0), there, x).x0 - cond, torch.tensor([[1.1094, 1.6641]]).double(), atol=5e-5
    )
    assert torch.allclose(ask(APG(2.0, eta=1.0, norm=5.0), there, x).x0, cond + across + along, atol=1e-12)


@pytest.mark.parametrize("space", [X0(), Eps(), V(), EDM(0.5)], ids=str)
def test_apg_laws_in_any_space(space):
    """eta 1 without cut or momentum is CFG; eta 0 leaves nothing along cond; the length of what is added is at most (w - 1) norm."""
    x = torch.randn(4, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = branches(Net(V(), MIXTURES), 4, [0.3, -0.4, 1.0, 2.0])
    cond = in_row(ask(Plain(), there, x), space)
    assert torch.allclose(ask(APG(3.5, eta=1.0, space=space), there, x).x0, ask(CFG(3.5), there, x).x0, atol=1e-12)
    moved = in_row(ask(APG(3.5, space=space), there, x), space) - cond
    assert float((moved * cond).flatten(1).sum(1).abs().max()) < 1e-10
    assert float(moved.flatten(1).norm(dim=1).min()) > 0.05
    cut = in_row(ask(APG(3.5, eta=1.0, norm=0.1, space=space), there, x), space) - cond
    assert torch.allclose(cut.flatten(1).norm(dim=1), torch.full((4,), 0.25, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=str)
def test_apg_momentum_by_hand(sampler):
    """m = d + beta m over steps; the second stage of a step neither reads a later m nor writes one."""
    levels, beta, norm, w = trailing(RectifiedFlow(), 5)[1:], -0.6, 0.8, 3.0
    x = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    net, m = Net(V(), MIXTURES), torch.zeros(3, 4, dtype=torch.float64)
    c, n = {"m": torch.full((3,), 0.3, dtype=torch.float64)}, {"m": torch.full((3,), math.nan)}

    def rule(y, level, before):
        cond, ref = net(y, level, c).x0, net(y, level, n).x0
        d = cond - ref + beta * before
        cut = d * (norm / d.norm(dim=1, keepdim=True)).clamp(max=1)
        along = (cut * cond).sum(1, keepdim=True) / (cond * cond).sum(1, keepdim=True) * cond
        x0 = cond + (w - 1) * (cut - along + 0.2 * along)
        return x0, (y - level.alpha * x0) / level.sigma, d

    y = x
    for now, nxt in itertools.pairwise(levels):
        x0, eps, after = rule(y, now, m)
        new = nxt.alpha * x0 + nxt.sigma * eps
        if isinstance(sampler, Heun) and nxt.sigma:
            _, second, _ = rule(new, nxt, m)
            new = nxt.alpha * (y / now.alpha + (nxt.ratio - now.ratio) * (eps + second) / 2)
        y, m = new, after
    for row in (None, V()):
        last, _ = guided(sampler, APG(w, 0.2, norm, beta), levels, x, Net(row, MIXTURES), m=0.3)
        assert torch.allclose(last, y, rtol=0, atol=1e-10)


def test_apg_is_diffusers_on_raw_outputs():
    """With their original formulation, whose scale is ours less 1, and their norm taken over the channels and pixels of a sample."""
    g = torch.Generator().manual_seed(0)
    outs = [tuple(torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64) for _ in range(2)) for _ in range(3)]
    x = torch.randn(2, 3, 4, 4, generator=g, dtype=torch.float64)
    for momentum, norm, eta in ((0.0, 15.0, 0.0), (-0.5, 5.0, 0.3), (-0.75, 2.5, 0.0)):
        peer = AdaptiveProjectedGuidance(
            3.0, momentum, adaptive_projected_guidance_rescale=norm, eta=eta, use_original_formulation=True
        )
        peer.momentum_buffer = MomentumBuffer(momentum)
        step = {"i": 0}
        there = {
            "cond": Branch(lambda x, level, c, step=step: Prediction(x, level, outs[step["i"]][0], V())),
            "ref": Branch(lambda x, level, c, step=step: Prediction(x, level, outs[step["i"]][1], V())),
        }
        field = Field(there, APG(4.0, eta, norm, momentum, space=V()), 2)
        for i in range(3):
            step["i"] = i
            field.begin(LEVEL)
            peer.set_state(i, 3, torch.tensor(500))
            theirs = peer.forward(outs[i][0], outs[i][1]).pred
            assert torch.allclose(field(x, LEVEL).out, theirs, rtol=1e-10, atol=1e-10)


def test_apg_in_half_precision():
    """The sum of squares of a picture is beyond 65504; the answer is that of float32."""
    g = torch.Generator().manual_seed(0)
    cond, ref = 4 * torch.randn(1, 3, 64, 64, generator=g), 4 * torch.randn(1, 3, 64, 64, generator=g)

    def found(dtype):
        said = {
            k: Branch(lambda x, level, c, v=v: Prediction(x, level, v.to(dtype), X0()))
            for k, v in (("cond", cond), ("ref", ref))
        }
        return ask(APG(3.0, 0.0, 100.0), said, torch.zeros(1, 3, 64, 64, dtype=dtype)).x0.float()

    assert float((cond * cond).sum()) > 65504
    assert torch.allclose(found(torch.float16), found(torch.float32), atol=0.03)


def test_apg_refusals():
    for make in (
        lambda: APG(norm=0.0),
        lambda: APG(momentum=1.0),
        lambda: APG(momentum=-1.0),
        lambda: APG(eta=math.inf),
        lambda: APG(math.nan),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()


# Threshold


def test_threshold_static_and_dynamic():
    values = np.random.default_rng(0).normal(0, 1.5, (3, 2, 25))
    values[2] *= 0.2  # nothing to cut
    there, x = says(V(), cond=values, ref=values * 0.5)
    x0 = ask(CFG(2.0), there, x).x0.numpy()
    found = ask(Threshold(CFG(2.0), 0.9), there, x)
    assert np.allclose(found.x0.numpy(), x0.clip(-0.9, 0.9), atol=1e-12)
    assert torch.allclose(0.6 * found.x0 + 0.8 * found.eps, x, atol=1e-12)
    for q in (0.5, 0.9, 0.995, 1.0):
        found = ask(Threshold(CFG(2.0), 0.9, q), there, x)
        s = np.maximum(np.quantile(np.abs(x0).reshape(3, -1), q, axis=1), 0.9)[:, None, None]
        assert np.allclose(found.x0.numpy(), x0.clip(-s, s) * (0.9 / s), atol=1e-12)
        assert torch.allclose(0.6 * found.x0 + 0.8 * found.eps, x, atol=1e-12)
        assert float(found.x0.abs().max()) <= 0.9 + 1e-12


def test_threshold_refusals():
    for make in (
        lambda: Threshold(limit=0.0),
        lambda: Threshold(limit=math.inf),
        lambda: Threshold(quantile=0.0),
        lambda: Threshold(quantile=1.1),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()
    x = torch.randn(2, 3, dtype=torch.float64)
    for rule in (Threshold(CFG(2.0)), Rescale(CFG(2.0)), APG(), Adaptive()):
        with pytest.raises(PairingError, match="leave that level out by an Interval"):
            guided(DDIM(), rule, trailing(RectifiedFlow(), 4)[::-1], x, Net(V()))
        guided(DDIM(), Interval(rule, 0.0), trailing(RectifiedFlow(), 4)[::-1], x, Net(V()))
    with pytest.raises(PairingError, match="space V"):
        guided(DDIM(), Rescale(CFG(2.0), space=Eps()), trailing(ZeroTerminalSNR(LinearBeta()), 4), x, Net(V()))


# Mix and Autoguidance


def test_mix_is_the_score_of_a_product():
    """Weights w_i of Gaussians N(m_i, v): at every level the score is the sum w_i s_i + (1 - sum w_i) s_ref."""
    net = Net(V())
    x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    there = {**branches(net, 5, 0.5), "b": branches(net, 5, -1.0)["cond"], "c": branches(net, 5, 2.0)["cond"]}
    weights = {"cond": 2.0, "b": 1.5, "c": -0.7}
    found = ask(Mix(weights), there, x)
    score = lambda m, v: -(x - 0.6 * m) / (0.36 * v + 0.64)  # noqa: E731
    wanted = 2.0 * score(0.5, 1) + 1.5 * score(-1.0, 1) - 0.7 * score(2.0, 1) + (1 - 2.8) * score(0.0, 2)
    assert torch.allclose(-found.eps / 0.8, wanted, atol=1e-12)
    assert torch.allclose(0.6 * found.x0 + 0.8 * found.eps, x, atol=1e-12)
    assert net.calls == 1  # one network, one call for the four


@pytest.mark.parametrize("row", [None, V()], ids=str)
def test_mix_of_one_condition_is_cfg(row):
    x = torch.randn(3, 2, dtype=torch.float64)
    there = branches(Net(row, MIXTURES), 3, 0.3)
    for w in (-1.0, 0.0, 1.0, 4.0):
        assert torch.allclose(ask(Mix({"cond": w}), there, x).x0, ask(CFG(w), there, x).x0, atol=1e-12)
    # away from a negative: ref + 3 (cond - ref) - 1 (negative - ref)
    there["negative"] = branches(there["cond"].network, 3, 1.0)["cond"]
    one = [ask(CFG(1.0 if k == "cond" else 0.0, against=k), there, x).x0 for k in ("cond", "ref", "negative")]
    found = ask(Mix({"cond": 3.0, "negative": -1.0}), there, x).x0
    assert torch.allclose(found, one[1] + 3 * (one[0] - one[1]) - (one[2] - one[1]), atol=1e-12)


def test_mix_asks_only_what_counts():
    net, x = Net(V()), torch.randn(2, 2, dtype=torch.float64)
    there = {**branches(net, 2), "b": branches(net, 2, 1.0)["cond"]}

    def spent(weights):
        field = Field(there, Mix(weights), 2)
        field(x, LEVEL)
        return field.spent[0].tolist()

    assert spent({"cond": 2.0, "b": 1.0}) == [1, 1, 1]
    assert spent({"cond": 0.4, "b": 0.6}) == [1, 0, 1]
    assert spent({"cond": 3.0, "b": 0.0}) == [1, 1, 0]
    assert spent({"cond": 0.0}) == [0, 1, 0]
    assert spent({"cond": 0.1, "b": 0.2 + 0.7}) == [1, 0, 1]  # 1 - the sum is 1e-17
    for weights in ({}, {"cond": math.nan}, {"ref": 1.0, "cond": 2.0}):
        with pytest.raises(ValueError, match=r"allowed|leave it out"):
            Mix(weights)


def test_autoguidance():
    """Both under the same condition: D_bad + w (D_good - D_bad); a branch that is missing is named."""
    good, bad, x = Net(V(), MIXTURES), Net(Eps()), torch.randn(3, 2, dtype=torch.float64)
    there = {**branches(good, 3, 0.3), "weak": branches(bad, 3, 0.3)["cond"]}
    a, b = ask(Plain(), there, x).x0, bad(x, LEVEL, there["weak"].condition).x0
    field = Field(there, Autoguidance(2.1), 3)
    assert torch.allclose(field(x, LEVEL).x0, b + 2.1 * (a - b), atol=1e-12)
    assert field.spent.tolist() == [[1, 0, 1]] * 3
    with pytest.raises(ValueError, match="weaker network is given as weak="):
        ask(Autoguidance(), branches(good, 3), x)
    # and it can be limited, rescaled, or made adaptive: the comparison is with the weak one
    levels = trailing(LinearBeta(), 6)
    _, field = guided(
        DDIM(), Adaptive(Autoguidance(), -1.0, against="weak"), levels, x, good, m=0.3, weak=there["weak"]
    )
    assert field.spent.tolist() == [[6, 0, 1]] * 3
    _, field = guided(DDIM(), Interval(Autoguidance(), 0.5, 2.0), levels, x, good, m=0.3, weak=there["weak"])
    assert field.spent.tolist() == [[6, 0, sum(0.5 < level.ratio <= 2.0 for level in levels[:-1])]] * 3


# scales per picture


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
    for bad in ([], [1.0, math.inf], "3"):
        with pytest.raises(ValueError, match="or one per picture"):
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


# what all rules share

ALL = [
    CFG(3.0), CFG([3.0, 1.0]), Mix({"cond": 3.0}), Rescale(CFG(3.0)), Threshold(CFG(3.0)), Threshold(CFG(3.0), quantile=0.9), APG(3.0, 0.0, 2.0, -0.5),
    CFGPlusPlus(0.6), Rescale(CFGPlusPlus(0.6)), Threshold(CFGPlusPlus(0.6)), Adaptive(CFG(3.0)), Interval(CFG(3.0), 0.5, 4.0), Autoguidance(2.0),
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
        (Threshold(CFG(3.0), 2.0, 0.9), 2.0), (APG(3.0), 1.5), (APG(3.0, eta=1.0), 4.5), (APG(3.0, eta=1.0, norm=1.5), 3.0), (Interval(CFG(3.0)), 4.5),
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

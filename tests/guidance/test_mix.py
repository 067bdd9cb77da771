"""Mix, Autoguidance and Threshold: scores of products, what is asked, and what is cut."""

import math

import numpy as np
import pytest
import torch
from guided import LEVEL, MIXTURES, Net, ask, branches, guided, says

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    Field,
    Interval,
    Mix,
    Plain,
    Rescale,
    Threshold,
)
from sfumato.samplers import DDIM
from sfumato.schedules import (
    Eps,
    LinearBeta,
    PairingError,
    RectifiedFlow,
    V,
    ZeroTerminalSNR,
    trailing,
)


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
    one = [ask(rule, there, x).x0 for rule in (Plain(), CFG(0.0), CFG(0.0, against="negative"))]
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

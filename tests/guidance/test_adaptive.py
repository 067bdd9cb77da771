"""Guidance that stops: exact counts, each sample on its own, and where it is measured."""

import math

import pytest
import torch
from guided import MIXTURES, Net, branches, guided
from oracles import log_grid

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    Branch,
    Field,
    Interval,
    LinearAdaptive,
    LinearPlan,
    Mix,
    cosine,
)
from sfumato.samplers import DDIM, DPMSolverPP, Heun, trajectory
from sfumato.schedules import EDM, X0, Eps, Level, LinearBeta, RectifiedFlow, V, trailing
from sfumato.schedules.prediction import from_x0

LEVELS = trailing(LinearBeta(), 12)


def picture(n=6, seed=0):
    return torch.randn(n, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def cosines(levels, x, space):
    """Per step and sample, from the definition, along a walk under a rule."""
    steps, found, net = [], [], Net(None, MIXTURES)
    guided(DDIM(), CFG(3.0), levels, x, net, m=0.3, steps=steps)
    for at, step in zip([x, *(s.x for s in steps)], steps, strict=False):
        a, b = space(step.now)
        u, v = (
            (a * p.x0 + b * p.eps)
            for p in (net(at, step.now, br.condition) for br in branches(net, len(x), 0.3).values())
        )
        found.append((u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1)))
    return torch.stack(found)


def test_branches_that_agree_stop_after_the_first_step():
    """One guided step, N + 1 evaluations; and the picture is the conditional one."""
    x = picture(3)
    for row in (None, V()):
        last, field = guided(DDIM(), Adaptive(CFG(5.0), 0.99), LEVELS, x, Net(row), m=math.nan)
        assert field.spent.tolist() == [[12, 1]] * 3
        assert torch.allclose(last, guided(DDIM(), CFG(1.0), LEVELS, x, Net(row), m=math.nan)[0], atol=1e-12)
    for least in (1, 4, 12, 30):
        _, field = guided(DDIM(), Adaptive(CFG(5.0), 0.99, least=least), LEVELS, x, Net(V()), m=math.nan)
        assert field.spent.tolist() == [[12, min(least, 12)]] * 3


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(2), Heun()], ids=str)
def test_a_threshold_above_one_is_the_rule(sampler):
    x = picture()
    a, field = guided(sampler, Adaptive(CFG(3.0), 1.01), LEVELS, x, Net(V(), MIXTURES), m=0.3)
    b, whole = guided(sampler, CFG(3.0), LEVELS, x, Net(V(), MIXTURES), m=0.3)
    assert torch.equal(a, b)
    assert torch.equal(field.spent, whole.spent)


@pytest.mark.parametrize("space", [X0(), Eps(), V(), EDM(0.5)], ids=str)
@pytest.mark.parametrize("row", [None, V()], ids=str)
def test_samples_stop_where_their_own_cosine_says(space, row):
    """2 k + (N - k) evaluations, k counted from the definition; in a batch each is the picture that it is alone."""
    x = picture()
    at = cosines(LEVELS, x, space)
    threshold = float(at[1:8].flatten().quantile(0.8))
    first = [next((i for i in range(12) if at[i, j] >= threshold), 11) for j in range(6)]
    rule = Adaptive(CFG(3.0), threshold, space)
    whole, field = guided(DDIM(), rule, LEVELS, x, Net(row, MIXTURES), m=0.3)
    assert field.spent[:, 0].tolist() == [12] * 6
    assert field.spent[:, 1].tolist() == [i + 1 for i in first]
    for j in range(6):
        alone, own = guided(DDIM(), rule, LEVELS, x[j : j + 1], Net(row, MIXTURES), m=0.3)
        assert torch.allclose(whole[j : j + 1], alone, rtol=0, atol=1e-12)
        assert torch.equal(own.spent[0], field.spent[j])
        k = first[j] + 1
        y, _ = guided(DDIM(), CFG(3.0), LEVELS[: k + 1], x[j : j + 1], Net(row, MIXTURES), m=0.3)
        if k < 12:
            y, _ = guided(DDIM(), CFG(1.0), LEVELS[k:], y, Net(row, MIXTURES), m=0.3)
        assert torch.allclose(alone, y, rtol=0, atol=1e-12)


def test_it_never_resumes():
    """The cosine rises above the threshold and falls again: guidance stays away. And the threshold itself is enough."""
    values = [0.5, 0.6, 0.2, 0.1]

    def said(angle):
        def answer(x, level, c):
            at = angle(level)
            return from_x0(x, level, torch.tensor([[math.cos(at), math.sin(at)]], dtype=torch.float64))

        return Branch(answer)

    levels = log_grid(10, 0.1, 4)
    by_level = dict(zip([level.sigma for level in levels], values, strict=False))
    there = {"cond": said(lambda level: 0.0), "ref": said(lambda level: math.acos(by_level[level.sigma]))}
    for threshold, k in ((0.55, 2), (0.45, 1), (0.65, 4), (0.5 - 1e-9, 1)):
        field = Field(there, Adaptive(CFG(2.0), threshold), 1)
        for now in levels[:-1]:
            field.begin(now)
            field(torch.zeros(1, 2, dtype=torch.float64), now)
        assert field.spent.tolist() == [[4, k]]


def test_with_an_interval_inside_and_outside():
    """Outside of the interval the reference is not asked, whichever of the two is the inner rule, and nothing is compared."""
    x, low, high = picture(), 0.3, 3.0
    inside = [low < level.ratio <= high for level in LEVELS[:-1]]
    begin = inside.index(True)
    assert begin > 0
    assert not inside[-1]
    for rule in (Adaptive(Interval(CFG(3.0), low, high), -1.0), Interval(Adaptive(CFG(3.0), -1.0), low, high)):
        _, field = guided(DDIM(), rule, LEVELS, x, Net(V(), MIXTURES), m=0.3)
        assert field.spent.tolist() == [[12, 1]] * 6
    for rule in (Adaptive(Interval(CFG(3.0), low, high), 2.0), Interval(Adaptive(CFG(3.0), 2.0), low, high)):
        last, field = guided(DDIM(), rule, LEVELS, x, Net(V(), MIXTURES), m=0.3)
        assert field.spent.tolist() == [[12, sum(inside)]] * 6
        assert torch.equal(last, guided(DDIM(), Interval(CFG(3.0), low, high), LEVELS, x, Net(V(), MIXTURES), m=0.3)[0])


def test_with_levels_per_sample_the_comparison_is_per_sample():
    """A sample that the inner interval leaves out in this step is not compared, so it is still guided when its interval comes."""
    rule = Adaptive(Interval(CFG(3.0), 0.5, 2.0), -1.0)
    field = Field(branches(Net(V(), MIXTURES), 2, 0.3), rule, 2)
    x = picture(2)
    for sigma in ((1.0, 3.0), (0.8, 1.5), (0.7, 1.2)):
        level = Level(torch.zeros(2), torch.ones(2, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64))
        field.begin(level)
        field(x, level)
    assert field.spent.tolist() == [[3, 1], [3, 1]]


def test_least_counts_a_samples_own_guided_steps():
    """Steps in which the others alone were guided do not count."""
    field = Field(branches(Net(V(), MIXTURES), 2, 0.3), Adaptive(Interval(CFG(3.0), 0.5, 2.0), -1.0, least=2), 2)
    x = picture(2)
    for sigma in ((1.0, 3.0), (0.8, 1.5), (0.7, 1.2), (0.6, 0.9)):
        level = Level(torch.zeros(2), torch.ones(2, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64))
        field.begin(level)
        field(x, level)
    assert field.spent.tolist() == [[4, 2], [4, 2]]


def test_under_heun_the_first_evaluation_decides():
    """Both evaluations of a guided step are guided."""
    x = picture()
    _, field = guided(Heun(), Adaptive(CFG(3.0), -1.0), LEVELS, x, Net(V(), MIXTURES), m=0.3)
    assert field.spent.tolist() == [[23, 2]] * 6
    _, field = guided(Heun(), Adaptive(CFG(3.0), -1.0, least=3), LEVELS, x, Net(V(), MIXTURES), m=0.3)
    assert field.spent.tolist() == [[23, 6]] * 6


def test_cosine():
    a, b = torch.randn(5, 2, 7, dtype=torch.float64), torch.randn(5, 2, 7, dtype=torch.float64)
    wanted = torch.nn.functional.cosine_similarity(a.flatten(1), b.flatten(1))
    assert torch.allclose(cosine(a, b), wanted, atol=1e-12)
    assert torch.allclose(cosine(a, -2 * a), -torch.ones(5, dtype=torch.float64))
    assert cosine(torch.zeros(1, 3), torch.ones(1, 3)).tolist() == [0.0]
    big = 60 * torch.ones(1, 40000, dtype=torch.float16)  # its sum of squares is beyond half precision
    assert float(cosine(big, big)) == pytest.approx(1.0, abs=1e-6)


def test_refusals():
    for make in (
        lambda: Adaptive(threshold=math.nan),
        lambda: Adaptive(least=0),
        lambda: Adaptive(least=1.5),
        lambda: Adaptive(least=True),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()
    assert Adaptive(CFG(2.0), 2.0).least == 1
    with pytest.raises(ValueError, match="asks for branch"):
        guided(DDIM(), Adaptive(CFG(2.0, "other")), trailing(RectifiedFlow(), 3), picture(), Net(V()))


@pytest.mark.parametrize(
    "rule", [Autoguidance(2.0), CFG(3.0, "weak"), APG(3.0, against="weak", eta=1.0)], ids=lambda r: type(r).__name__
)
def test_without_a_name_cond_is_compared_with_what_the_rule_asks(rule):
    """The weak network says what cond says: it stops after the first step, and "ref" is never asked."""
    x, levels = torch.randn(3, 2, dtype=torch.float64), trailing(RectifiedFlow(), 5)
    there = branches(Net(V()), 3, 0.5)
    there["weak"] = Branch(Net(V()), there["cond"].condition)  # another network, of the same answers
    field = Field(there, Adaptive(rule, 0.999), 3)
    with torch.no_grad():
        list(trajectory(DDIM(), field, levels, x))
    assert field.spent.tolist() == [[5, 0, 1]] * 3


def test_several_references_must_be_named():
    x = torch.randn(2, 2, dtype=torch.float64)
    there = branches(Net(V()), 2)
    there["second"] = Branch(there["cond"].network, {"m": torch.full_like(there["cond"].condition["m"], 0.7)})
    mixed = Mix({"cond": 2.0, "second": 1.0})
    with pytest.raises(ValueError, match="asks 'ref' and 'second'; say which: against"):
        Field(there, Adaptive(mixed), 2)(x, Level(0.5, 0.6, 0.8))
    Field(there, Adaptive(mixed, against="second"), 2)(x, Level(0.5, 0.6, 0.8))


def test_a_rule_whose_memory_grows_may_be_stopped():
    """LinearAdaptive's memory is longer in every step; some samples have stopped, others go on."""
    x, levels = torch.randn(4, 2, dtype=torch.float64), trailing(LinearBeta(), 4)
    means = torch.tensor([0.0, 2.0, 0.0, 2.0])
    net = Net(V())
    there = {"cond": Branch(net, {"m": means}), "ref": Branch(net, {"m": torch.full((4,), math.nan)})}
    plan = LinearPlan(2.0, [None] * 4, [level.ratio for level in levels[:-1]])
    spent = []
    for threshold in (2.0, 0.97):
        field = Field(there, Adaptive(LinearAdaptive(plan), threshold), 4)
        with torch.no_grad():
            *_, last = trajectory(DDIM(), field, levels, x)
        spent.append(field.spent[:, 1].tolist())
        if threshold > 1:
            whole = last.x
    assert spent[0] == [4] * 4
    assert min(spent[1]) < max(spent[1])
    stayed = torch.tensor(spent[1]) == 4
    assert torch.allclose(last.x[stayed], whole[stayed], atol=1e-12)

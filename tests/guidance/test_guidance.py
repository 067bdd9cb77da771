"""Branches under rules: exact counts, one vector field per step, and the closed forms of guided Gaussians."""

import math
from dataclasses import dataclass

import pytest
import torch
from guided import Net, branches, guided
from oracles import Mixture

from sfumato.guidance import CFG, Ask, Branch, Field, Interval, Plain
from sfumato.samplers import DDIM, DPMSolverPP, Heun, trajectory
from sfumato.schedules import Level, LinearBeta, Prediction, V, karras, trailing
from sfumato.schedules import RectifiedFlow as Flow


def test_scale_one_and_zero_are_the_branches_at_one_evaluation():
    levels, x = trailing(LinearBeta(), 6), torch.randn(3, 2, dtype=torch.float64)
    plain, _ = guided(DDIM(), Plain(), levels, x)
    one, field = guided(DDIM(), CFG(1.0), levels, x)
    assert torch.equal(plain, one)
    assert field.spent.tolist() == [[6, 0]] * 3
    zero, field = guided(DDIM(), CFG(0.0), levels, x)
    assert field.spent.tolist() == [[0, 6]] * 3
    assert not torch.allclose(zero, one)


def test_interval_over_everything_is_the_rule_and_an_empty_one_is_plain():
    levels, x = trailing(Flow(), 9), torch.randn(3, 2, dtype=torch.float64)
    for sampler in (DDIM(), Heun(), DPMSolverPP(2)):
        assert torch.equal(
            guided(sampler, Interval(CFG(3.0)), levels, x, Net(V()))[0],
            guided(sampler, CFG(3.0), levels, x, Net(V()))[0],
        )
        empty, field = guided(sampler, Interval(CFG(3.0), 0.5, 0.5), levels, x, Net(V()))
        assert torch.equal(empty, guided(sampler, Plain(), levels, x, Net(V()))[0])
        assert int(field.spent[:, 1].sum()) == 0


def test_evaluations_of_the_edm2_interval():
    """Heun on EDM2's 32-step grid, (0.19, 1.61]: indices 17 to 22 are guided, 75 evaluations instead of 126."""
    levels = karras(Flow(), 32)
    rule = Interval(CFG(2.0), 0.19, 1.61)
    assert [i for i, level in enumerate(levels[:-1]) if rule.low < level.ratio <= rule.high] == list(range(17, 23))
    x = torch.randn(2, 2, dtype=torch.float64)
    _, field = guided(Heun(), rule, levels, x)
    assert field.spent.tolist() == [[63, 12]] * 2
    _, field = guided(Heun(), CFG(2.0), levels, x)
    assert int(field.spent[0].sum()) == 126


def test_one_network_is_called_once_per_evaluation_with_both_branches():
    net, x = Net(V()), torch.randn(3, 2, dtype=torch.float64)
    guided(DDIM(), Interval(CFG(2.0), 0.5, 2.0), trailing(Flow(), 10), x, net)
    assert net.calls == 10
    assert set(net.sizes) == {3, 6}


def test_branches_that_say_the_same_are_asked_once():
    """The very same condition object: guidance from a branch to itself costs nothing and changes nothing."""
    net, x = Net(V()), torch.randn(3, 2, dtype=torch.float64)
    condition = {"m": torch.zeros(3)}
    field = Field({"cond": Branch(net, condition), "ref": Branch(net, condition)}, CFG(4.0), 3)
    with torch.no_grad():
        *_, found = trajectory(DDIM(), field, trailing(Flow(), 4), x)
    plain, _ = guided(DDIM(), Plain(), trailing(Flow(), 4), x)
    assert (net.calls, set(net.sizes)) == (4, {3})
    assert field.spent.tolist() == [[4, 0]] * 3
    assert torch.allclose(found.x, plain, atol=1e-12)


def test_networks_that_differ_are_called_apart():
    net, weak, x = Net(V()), Net(V()), torch.randn(3, 2, dtype=torch.float64)
    both = {**branches(net, 3), "weak": Branch(weak, {"m": torch.zeros(3)})}
    field = Field(both, CFG(2.0, against="weak"), 3)
    with torch.no_grad():
        list(trajectory(DDIM(), field, trailing(Flow(), 4), x))
    assert (net.calls, weak.calls) == (4, 4)
    assert field.spent.tolist() == [[4, 0, 4]] * 3


def test_asked_twice_paid_once():
    @dataclass(frozen=True)
    class Twice:
        def init(self, x):
            return ()

        def __call__(self, ask, memory):
            a, b = ask("cond", "ref")
            c, d = ask("ref", "cond")
            assert a is d
            assert b is c
            return a, memory

    net = Net()
    field = Field(branches(net, 2), Twice(), 2)
    field(torch.zeros(2, 1), Level(0.5, 0.6, 0.8))
    assert net.calls == 1
    assert field.spent.tolist() == [[1, 1]] * 2


@pytest.mark.parametrize("row", [None, V()], ids=str)
def test_only_some_samples(row):
    """On the others the branch repeats "cond", costs nothing, and does not run."""
    x, level = torch.randn(4, 2, dtype=torch.float64), Level(0.5, 0.6, 0.8)
    net = Net(row)
    spent = torch.zeros(4, 2, dtype=torch.int64)
    whole = Ask(branches(net, 4), x, level, level, spent)
    part = whole.only(torch.tensor([True, False, False, True]))
    cond, ref = part("cond", "ref")
    assert net.sizes == [6]
    assert spent.tolist() == [[1, 1], [1, 0], [1, 0], [1, 1]]
    full_cond, full_ref = Ask(branches(Net(row), 4), x, level, level, spent.clone())("cond", "ref")
    assert torch.allclose(cond.x0, full_cond.x0, atol=1e-12)
    assert torch.allclose(ref.x0[[0, 3]], full_ref.x0[[0, 3]], atol=1e-12)
    assert torch.allclose(ref.x0[[1, 2]], full_cond.x0[[1, 2]], atol=1e-12)
    calls = net.calls
    _, nobody = whole.only(torch.zeros(4, dtype=torch.bool))("cond", "ref")
    assert torch.allclose(nobody.x0, full_cond.x0, atol=1e-12)
    assert net.calls == calls  # cond is known


@dataclass(frozen=True)
class Counting:
    """Memory counts steps; the scale is the count."""

    seen: tuple = ()

    def init(self, x):
        return (torch.zeros(len(x), 1, dtype=x.dtype),)

    def __call__(self, ask, memory):
        (cond,) = ask("cond")
        (count,) = memory
        return Prediction.pair(cond.x0 + 0 * cond.x0 + count, cond.eps), (count + 1,)


def test_a_step_is_one_vector_field():
    """Both stages of Heun read the memory that the step began with; the first alone writes the next."""
    field = Field(branches(Net(), 2), Counting(), 2)
    x, level = torch.zeros(2, 1, dtype=torch.float64), Level(0.5, 0.6, 0.8)
    base, _ = Counting()(
        Ask(branches(Net(), 2), x, level, level, torch.zeros(2, 2, dtype=torch.int64)), (torch.zeros(2, 1),)
    )
    for step in range(3):
        field.begin(level)
        for _ in range(3):
            assert torch.allclose(field(x, level).x0, base.x0 + step)


@dataclass(frozen=True)
class Remembers:
    """Its memory is the x that it saw; it answers with what it remembers."""

    def init(self, x):
        return (torch.full_like(x, -1.0),)

    def __call__(self, ask, memory):
        return Prediction.pair(memory[0], memory[0]), (ask.x,)


def test_the_first_evaluation_of_a_step_alone_writes_the_next_memory():
    field, level = Field(branches(Net(), 1), Remembers(), 1), Level(0.5, 0.6, 0.8)
    for step in range(3):
        field.begin(level)
        for stage in (0.0, 0.3, 0.6):
            said = float(field(torch.full((1, 1), step + stage), level).x0)
            assert said == step - 1.0  # what the first evaluation of the step before saw


def test_a_field_starts_anew_with_each_trajectory():
    field = Field(branches(Net(), 2), Counting(), 2)
    levels, x = trailing(Flow(), 4), torch.randn(2, 1, dtype=torch.float64)
    with torch.no_grad():
        *_, a = trajectory(DDIM(), field, levels, x)
        *_, b = trajectory(DDIM(), field, levels, x)
    assert torch.equal(a.x, b.x)
    assert field.spent.tolist() == [[8, 0]] * 2


@pytest.mark.parametrize("row", [None, V()], ids=str)
def test_a_network_that_answers_for_another_level_is_read_there(row):
    """A model of another path behind a wrapper: its prediction is solved where it was made, guided or not."""
    inner = Net(row)

    def wrapped(x, level, condition):
        vp = Level.from_log_snr(0.0, level.log_snr)
        return inner(x * (vp.alpha / level.alpha), vp, condition)

    x, level = torch.randn(3, 1, dtype=torch.float64), Flow()(0.4)
    direct = wrapped(x, level, {"m": torch.zeros(3)})
    for rule in (Plain(), CFG(2.0)):
        p = Field(branches(wrapped, 3), rule, 3)(x, level)
        if isinstance(rule, Plain):
            assert torch.allclose(p.x0, direct.x0, atol=1e-12)
        else:
            null = wrapped(x, level, {"m": torch.full((3,), math.nan)})
            assert torch.allclose(p.x0, 2 * direct.x0 - null.x0, atol=1e-12)


def test_levels_without_a_batch_of_their_own_serve_joint_calls():
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    sigma = torch.rand(1, 1, 2, 2, dtype=torch.float64) * 0.5 + 0.2
    level = Level(0.5, 1 - sigma, sigma)
    p = Field(branches(Net(V()), 3), CFG(2.0), 3)(x, level)
    q = Field(branches(Net(V()), 3), CFG(2.0), 3)(
        x, Level(0.5, level.alpha.expand(3, 1, 2, 2), sigma.expand(3, 1, 2, 2))
    )
    assert torch.allclose(p.x0, q.x0, atol=1e-12)


def test_the_interval_is_decided_where_the_step_began():
    """A second stage below the lower end is still guided when its step began inside."""
    field = Field(branches(Net(), 1), Interval(CFG(2.0), 0.5, 2.0), 1)
    inside, below = Level(0.5, 1.0, 0.6), Level(0.4, 1.0, 0.4)
    field.begin(inside)
    field(torch.zeros(1, 1), inside)
    field(torch.zeros(1, 1), below)
    assert field.spent.tolist() == [[2, 2]]


def test_under_another_rule_counts_on():
    field = Field(branches(Net(), 1), Plain(), 1)
    level = Level(0.5, 0.6, 0.8)
    field.begin(level)
    field(torch.zeros(1, 1), level)
    field.under(CFG(3.0))(torch.zeros(1, 1), level)
    assert field.spent.tolist() == [[2, 1]]


def test_guided_outputs_stay_raw():
    """CFG of one network is one lerp of its outputs; nothing is solved."""
    field = Field(branches(Net(V()), 2), CFG(2.5), 2)
    assert field(torch.randn(2, 2), Level(0.5, 0.6, 0.8)).raw


def test_guided_plain_denoiser_agrees_with_the_mixture_oracle():
    levels, x = trailing(LinearBeta(), 8), torch.randn(5, 1, dtype=torch.float64)
    net = lambda x, level, condition: Mixture(row=V())(x, level)  # noqa: E731
    field = Field({"cond": Branch(net)}, Plain(), 5)
    with torch.no_grad():
        *_, a = trajectory(DPMSolverPP(2), field, levels, x)
        *_, b = trajectory(DPMSolverPP(2), Mixture(row=V()), levels, x)
    assert torch.equal(a.x, b.x)


def test_refusals():
    x, level = torch.zeros(1, 1), Level(0.5, 0.6, 0.8)
    with pytest.raises(ValueError, match=r"asks for branch 'negative'; there are 'cond', 'ref'"):
        Field(branches(Net(), 1), CFG(2.0, against="negative"), 1)(x, level)
    with pytest.raises(ValueError, match="one must be named 'cond'"):
        Field({}, Plain(), 1)
    net = Net()
    differing = {"cond": Branch(net, {"m": torch.zeros(1)}), "ref": Branch(net, None)}
    with pytest.raises(ValueError, match="differ in structure"):
        Field(differing, CFG(2.0), 1)(x, level)
    with pytest.raises(ValueError, match="allowed: 0 <= low <= high"):
        Interval(CFG(2.0), 2.0, 1.0)
    with pytest.raises(ValueError, match="finite"):
        CFG(math.inf)

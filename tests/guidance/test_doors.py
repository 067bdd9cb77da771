"""Guided predictions in unusual company: gradients, networks of other paths and dtypes, levels per sample."""

import math

import pytest
import torch
from guided import LEVEL, MIXTURES, Net, branches, guided

from sfumato.guidance import APG, CFG, Adaptive, Autoguidance, Branch, CFGPlusPlus, Field, Interval
from sfumato.samplers import DDIM, AdaptiveStep, DPMSolverPP, Heun, trajectory
from sfumato.schedules import Level, LinearBeta, Prediction, RectifiedFlow, V, trailing


@pytest.mark.parametrize(
    "make", [Autoguidance, lambda w: Adaptive(Autoguidance(w), 2.0), lambda w: APG(w, against="weak")]
)
def test_a_weak_network_of_another_path_and_the_same_row_beside_scales_per_picture(make):
    """An output is put beside others of its row only where both were made at the same level: each picture is as with one scale."""
    net = Net(V(), MIXTURES)

    def weak(x, level, condition):
        own = RectifiedFlow().at_log_snr(level.log_snr)
        return net((own.alpha + own.sigma) / (level.alpha + level.sigma) * x, own, condition)

    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    there = branches(net, 3, 0.3)
    there["weak"] = Branch(weak, there.pop("ref").condition)
    column = torch.full((3, 1), 1.0, dtype=torch.float64)
    for level in (LEVEL, Level(*(v * column for v in LEVEL))):
        some = Field(there, make([3.0, 1.0, 3.0]), 3)(x, level)
        for i, scale in enumerate((3.0, 1.0, 3.0)):
            one = Field(there, make(scale), 3)(x, level)
            assert torch.allclose(some.x0[i], one.x0[i], rtol=0, atol=1e-12)
            assert torch.allclose(some.eps[i], one.eps[i], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "rule", [APG(3.0, norm=2.0), APG([1.0, 3.0], norm=2.0), APG(3.0, norm=0.1, momentum=-0.5)], ids=str
)
def test_the_gradient_of_a_cut_that_cuts_nothing(rule):
    """Where cond and ref agree, guidance is cond, and so is its slope."""
    net = Net(V(), MIXTURES)
    x = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    there = branches(net, 2, torch.tensor([math.nan, 0.3]))
    (slope,) = torch.autograd.grad(Field(there, rule, 2)(x, LEVEL).x0.sum(), x)
    (wanted,) = torch.autograd.grad(net(x, LEVEL, there["cond"].condition).x0.sum(), x)
    assert torch.allclose(slope[0], wanted[0], rtol=0, atol=1e-12)
    assert bool(torch.isfinite(slope).all())


def test_gradients_through_steps_of_each_samples_own_length():
    """A sample that waits for its neighbour at the end has no error, whose root has no slope; the slope is that of the ODE."""
    path = LinearBeta()
    levels = [path(1.0), path(0.01)]
    # Gaussian data N(0, 1) under cond, N(0, 2) under ref: the end is x times a number, element by element
    x = torch.tensor([[0.1, 0.2], [3.0, -8.0]], dtype=torch.float64, requires_grad=True)
    field = Field(branches(Net(V()), 2, 0.0), CFG(3.0), 2)
    *_, last = trajectory(AdaptiveStep(1e-6, path=path), field, levels, x)
    (slope,) = torch.autograd.grad(last.x.sum(), x)
    assert torch.allclose(slope, last.x.detach() / x.detach(), rtol=1e-4)


@pytest.mark.parametrize(("mine", "its"), [(torch.float16, torch.float32), (torch.float32, torch.float64)])
def test_a_move_keeps_the_dtype_of_x(mine, its):
    net = Net(V(), MIXTURES)

    def other(x, level, condition):
        p = net(x, level, condition)
        return Prediction.pair(p.x0.to(its), p.eps.to(its))

    field = Field({k: Branch(other, b.condition) for k, b in branches(net, 2, 0.3).items()}, CFGPlusPlus(0.6), 2)
    x, ends = torch.linspace(-1, 1, 6).view(2, 3).to(mine), []
    for written in (False, True):
        with torch.no_grad():
            steps = [s.x for s in trajectory(DPMSolverPP(2), field, trailing(LinearBeta(), 5), x, as_written=written)]
        assert {v.dtype for v in steps} == {mine}
        ends.append(steps[-1])
    assert torch.allclose(*ends, rtol=0, atol=8 * torch.finfo(mine).eps)


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=str)
def test_an_interval_of_levels_per_sample_is_decided_where_the_step_began(sampler):
    """Heun's second stage follows its first, as with one number for all."""
    levels = trailing(LinearBeta(), 8)
    each = [Level(*(torch.full((2,), v, dtype=torch.float64) for v in level)) for level in levels[:-1]]
    x = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rule = Interval(CFG(3.0), 0.5, 3.0)
    a, one = guided(sampler, rule, levels[:-1], x, Net(V(), MIXTURES), m=0.3)
    b, own = guided(sampler, rule, each, x, Net(V(), MIXTURES), m=0.3)
    assert torch.allclose(a, b, rtol=0, atol=1e-12)
    assert torch.equal(one.spent, own.spent)


def test_branches_that_say_the_same_in_any_order():
    """Named before "cond" or behind it, a branch that says what cond says is cond, and costs nothing."""
    net, condition = Net(V(), MIXTURES), {"m": torch.full((3,), 0.3, dtype=torch.float64)}
    x = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for names in (("cond", "ref"), ("ref", "cond")):
        field = Field({name: Branch(net, condition) for name in names}, CFG([1.0, 3.0, 1.0]), 3)
        p = field(x, LEVEL)
        assert torch.allclose(p.x0, net(x, LEVEL, condition).x0, rtol=0, atol=1e-12)
        assert dict(zip(names, field.spent.T.tolist(), strict=True)) == {"cond": [1] * 3, "ref": [0] * 3}


def test_what_a_network_says_nothing_about_is_refused_before_it_is_asked():
    class Picky(Net):
        def check(self, levels):
            raise ValueError(f"none of {len(levels)} levels")

    net, x = Picky(V()), torch.randn(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="none of 4 levels"):
        trajectory(DDIM(), Field(branches(net, 2), CFG(3.0), 2), trailing(LinearBeta(), 4), x)
    assert net.calls == 0

"""What guidance costs: evaluations, calls, and reads by the host."""

import pytest
import torch
from guided import MIXTURES, Net, branches, guided
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from sfumato.guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    CFGPlusPlus,
    Field,
    Interval,
    LinearAdaptive,
    Mix,
    Plain,
    Rescale,
    Threshold,
)
from sfumato.guidance.linear_fit import LinearFit
from sfumato.samplers import DDIM, DPMSolverPP, Heun, Langevin, PredictorCorrector, trajectory
from sfumato.schedules import Flow, LinearBeta, RectifiedFlow, V, karras, trailing

LEVELS = trailing(LinearBeta(), 10)


def plan():
    learner = LinearFit(3.0, lambda k: "ask" if k % 2 == 0 else "replace")
    guided(DDIM(), learner, LEVELS, torch.randn(20, 3, dtype=torch.float64), Net(V(), MIXTURES), m=0.3)
    return learner.plan()


RULES = {
    "plain": Plain(), "cfg": CFG(3.0), "scales": CFG([1.0, 3.0]), "mix": Mix({"cond": 2.0, "weak": 1.5}), "rescale": Rescale(CFG(3.0)),
    "rescale scales": Rescale(CFG([1.0, 3.0])), "threshold": Threshold(CFG(3.0)), "dynamic": Threshold(CFG(3.0), quantile=0.9),
    "apg": APG(3.0, 0.0, 2.0, -0.5), "apg scales": APG([1.0, 3.0], 0.2, 2.0, -0.5), "auto": Autoguidance(2.0), "cfg++": CFGPlusPlus(0.6),
    "cfg++ noise": CFGPlusPlus(3.0, per="noise"), "interval": Interval(Rescale(CFG(3.0)), 0.2, 3.0),
    "interval cfg++": Interval(CFGPlusPlus(0.6), 0.2, 3.0),
    "rescale cfg++": Rescale(CFGPlusPlus(0.6)), "linear": None,
}  # fmt: skip


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_the_host_waits_for_nothing(name, written):
    """Tensors without values: whoever looks at one raises."""
    rule = RULES[name] or LinearAdaptive(plan())
    x = torch.empty(2, 3, device="meta")
    for sampler in (DDIM(), DPMSolverPP(2), Heun()) if name != "linear" else (DDIM(),):
        net = Net(V(), MIXTURES)
        there = {**branches(net, 2, 0.3, "meta"), "weak": branches(net, 2, 1.0, "meta")["cond"]}
        with torch.no_grad():
            steps = list(trajectory(sampler, Field(there, rule, 2), LEVELS, x, as_written=written))
        assert (len(steps), steps[-1].x.device.type) == (10, "meta")


class Reads(TorchDispatchMode):
    """How often the host looks at what comes of a tensor: item, bool, nonzero; `cpu` is counted where it is called."""

    def __init__(self, x):
        super().__init__()
        self.count, self.kept = 0, [x]  # kept alive, so that an id stays one tensor's
        self.known = {id(x)}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        inputs, outputs = tree_flatten((args, kwargs))[0], tree_flatten(out)[0]
        if any(id(v) in self.known for v in inputs):
            self.count += func.overloadpacket.__name__ in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")
            for v in outputs:
                if isinstance(v, torch.Tensor):
                    self.kept.append(v)
                    self.known.add(id(v))
        return out


def reads(rule, sampler, x, monkeypatch, m=0.3):
    """(reads in each step, guided samples in each step)."""
    per_step, spent, mode = [], [], Reads(x)

    field = Field(branches(Net(V(), MIXTURES), len(x), m), rule, len(x))
    with monkeypatch.context() as patch, torch.no_grad(), mode:
        patch.setattr(torch.Tensor, "cpu", lambda tensor: _plainly(mode, tensor))
        for _ in trajectory(sampler, field, LEVELS, x):
            per_step.append(mode.count)
            spent.append(int(field.spent[:, 1].sum()))
    differences = lambda v: [b - a for a, b in zip([0, *v], v, strict=False)]  # noqa: E731
    return differences(per_step), differences(spent)


def _plainly(mode, tensor):
    """A copy on the host: one read, and no longer of the device."""
    mode.count += id(tensor) in mode.known
    with torch.utils._python_dispatch._disable_current_modes():
        return tensor.clone()


@pytest.mark.parametrize("sampler", [DDIM(), Heun()], ids=str)
def test_adaptive_waits_once_per_guided_step_and_not_afterwards(sampler, monkeypatch):
    x = torch.randn(6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, guided_in = reads(Adaptive(CFG(3.0), 0.9973), sampler, x, monkeypatch)
    wanted = [int(g > 0) for g in guided_in]
    assert 0 < sum(wanted) < 10
    assert found == wanted
    for rule in (CFG(3.0), Rescale(CFG([3.0] * 5 + [1.0])), CFGPlusPlus(0.6)):
        assert sum(reads(rule, sampler, x, monkeypatch)[0]) == 0
    outside, guided_in = reads(Adaptive(Interval(CFG(3.0), 0.3, 3.0), 2.0), sampler, x, monkeypatch)
    assert outside == [int(g > 0) for g in guided_in]
    assert 0 < sum(outside) < 10


def test_one_joint_call_per_evaluation():
    """All branches of one network together, of which each sample pays what it needs."""
    x = torch.randn(4, 3, dtype=torch.float64)
    for rule, sizes in (
        (CFG(3.0), {8}), (Rescale(CFG(3.0)), {8}), (APG(3.0), {8}), (CFGPlusPlus(0.6), {8}), (Mix({"cond": 2.0, "b": 1.0}), {12}),
        (CFG([1.0, 2.0, 1.0, 1.0]), {5}), (Rescale(CFG([1.0, 2.0, 1.0, 1.0])), {5}), (CFG(1.0), {4}), (Threshold(Mix({"b": 1.0})), {4}),
    ):  # fmt: skip
        net = Net(V(), MIXTURES)
        guided(DDIM(), rule, LEVELS, x, net, m=0.3, b=branches(net, 4, 1.0)["cond"])
        assert net.calls == 10, rule
        assert set(net.sizes) == sizes, rule


def test_only_within_only():
    """What two of them leave out is left out, what one has asked the other does not ask again, and what is not wanted repeats cond."""
    net, x, level = Net(V(), MIXTURES), torch.randn(4, 2, dtype=torch.float64), LEVELS[4]

    class Twice:
        def init(self, x):
            return ()

        def __call__(self, ask, memory):
            first = ask.only(torch.tensor([True, True, False, False]))
            inner = first.only(torch.tensor([False, True, True, False]))
            (a,) = inner("ref")
            assert ask.asked("ref").tolist() == [False, True, False, False]
            (b,) = first("ref")
            assert first("ref")[0] is b
            (a_again,) = inner("ref")
            cond, c = ask("cond", "ref")
            for p, on in ((a, [1]), (a_again, [1]), (b, [0, 1]), (c, [0, 1, 2, 3])):
                off = [i for i in range(4) if i not in on]
                assert torch.allclose(p.x0[on], c.x0[on], atol=1e-12)
                assert torch.allclose(p.x0[off], cond.x0[off], atol=1e-12)
            assert ask.asked("ref").all()
            assert not ask.asked("nobody").any()
            return c, ()

    field = Field(branches(net, 4, 0.3), Twice(), 4)
    p = field(x, level)
    assert field.spent.tolist() == [[1, 1]] * 4
    assert net.sizes == [5, 1, 2]
    assert torch.allclose(p.x0, net(x, level, field.branches["ref"].condition).x0, atol=1e-12)


def test_evaluations():
    """Heun 2 N - 1 times two; the interval of EDM2 75 of 126; a corrector of K steps 1 + 2 K; adaptive 2 k + N - k."""
    x = torch.randn(2, 3, dtype=torch.float64)
    _, field = guided(Heun(), CFG(2.0), karras(RectifiedFlow(), 32), x, Net(Flow()))
    assert field.spent.sum(1).tolist() == [126] * 2
    _, field = guided(Heun(), Interval(CFG(2.0), 0.19, 1.61), karras(RectifiedFlow(), 32), x, Net(Flow()))
    assert field.spent.sum(1).tolist() == [75] * 2
    for k in (1, 3):
        sampler = PredictorCorrector(DDIM(), Langevin(count=k), CFG(3.0))
        _, field = guided(sampler, Plain(), LEVELS, x, Net(V()), lambda i, d: torch.zeros_like(x))
        assert field.spent.sum(1).tolist() == [9 * (1 + 2 * k) + 1] * 2
    for least in (1, 5, 10):
        _, field = guided(DDIM(), Adaptive(CFG(3.0), -1.0, least=least), LEVELS, x, Net(V()))
        assert field.spent.sum(1).tolist() == [2 * least + 10 - least] * 2

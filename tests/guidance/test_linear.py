"""LinearAdaptive: exact where theory says so, an estimate elsewhere, and the counts of its policies."""

import itertools
import math

import numpy as np
import pytest
import torch
from guided import GAUSSIANS, MIXTURES, Net, guided

from sfumato.guidance import CFG, Interval, LinearAdaptive, LinearPlan
from sfumato.guidance import linear_fit as fitting
from sfumato.guidance.linear_adaptive import recalled
from sfumato.guidance.linear_fit import LinearFit, least_squares
from sfumato.samplers import DDIM, DPMSolverPP, Heun
from sfumato.schedules import X0, Eps, LinearBeta, V, trailing

LEVELS = trailing(LinearBeta(), 20)


def alternate(second):
    """The first half asks in every other step, the second half does as told."""
    return lambda k: ("ask" if k % 2 == 0 else "replace") if k < 10 else second


def batch(n, seed=0):
    return torch.randn(n, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def fit(scale, kind, data, *, space=None, x=None, sampler=None):
    learner = LinearFit(scale, kind, space or Eps())
    guided(
        sampler or DDIM(),
        learner,
        LEVELS,
        batch(64) if x is None else x,
        Net(V(), data),
        m=0.3 if data is MIXTURES else 0.0,
    )
    return learner


@pytest.mark.parametrize("space", [Eps(), X0(), V()], ids=str)
def test_zero_mean_gaussians_are_replaced_exactly(space):
    """Everything is linear in x, so one regressor will do, and the picture is CFG's."""
    learner = fit(3.0, alternate("replace"), GAUSSIANS, space=space)
    assert all(r is None or r < 1e-8 for r in learner.residuals)
    assert sum(r is not None for r in learner.residuals) == 15
    x = batch(5, 9)
    last, field = guided(DDIM(), LinearAdaptive(learner.plan()), LEVELS, x, Net(V()))
    assert torch.allclose(last, guided(DDIM(), CFG(3.0), LEVELS, x, Net(V()))[0], rtol=0, atol=1e-7)
    assert field.spent.tolist() == [[20, 5]] * 5


def test_one_regressor_leaves_nothing_of_a_gaussian():
    net, level = Net(V()), LEVELS[7]
    x = batch(32)
    cond, ref = (net(x, level, {"m": torch.full((32,), m)}).eps for m in (0.0, math.nan))
    (weight,) = least_squares([cond], ref)
    assert float((weight * cond - ref).norm() / ref.norm()) < 1e-10
    a, s = level.alpha, level.sigma
    assert weight == pytest.approx((a * a + s * s) / (2 * a * a + s * s), abs=1e-12)


def test_a_longer_history_fits_a_mixture_no_worse():
    """Residuals on true trajectories: above 0, and not growing with the number of past steps."""
    conds, refs, steps, net, x = [], [], [], Net(None, MIXTURES), batch(200)
    guided(DDIM(), CFG(3.0), LEVELS, x, net, m=0.3, steps=steps)
    for at, step in zip([x, *(s.x for s in steps)], steps, strict=False):
        for out, m in ((conds, 0.3), (refs, math.nan)):
            out.append(net(at, step.now, {"m": torch.full((200,), m, dtype=torch.float64)}).eps)
    k, found = 14, []
    for history in range(0, k + 1, 2):
        past = [v for i in range(k - history, k) for v in (conds[i], refs[i])]
        weights = least_squares([*past, conds[k]], refs[k])
        found.append(float((recalled(weights, past, conds[k]) - refs[k]).norm() / refs[k].norm()))
    assert all(b <= a + 1e-9 for a, b in itertools.pairwise(found))  # at last they stand where float64 does, at 2e-8
    assert found[0] == pytest.approx(0.1413, abs=1e-3)
    assert 1e-3 < found[1] < 1e-2


def test_weights_belong_to_a_scale():
    a, b = (fit(w, alternate("replace"), MIXTURES).plan() for w in (1.0, 7.5))
    assert max(abs(u - v) for u, v in zip(a.steps[9], b.steps[9], strict=True)) > 0.05


def test_fitting_on_estimates_beats_fitting_on_the_truth():
    """All later steps replaced: weights of true trajectories, one for all, meet errors they never saw."""
    kind = lambda k: "ask" if k < 4 else "replace"  # noqa: E731
    sequential = fit(3.0, kind, MIXTURES, x=batch(300)).plan()
    truth = fit(3.0, lambda k: "ask", MIXTURES, x=batch(300))
    net, steps, memory, entries, x = Net(None, MIXTURES), [], [], [], batch(300)
    guided(DDIM(), CFG(3.0), LEVELS, x, net, m=0.3, steps=steps)
    for k, (at, step) in enumerate(zip([x, *(s.x for s in steps)], steps, strict=False)):
        own, ref = (net(at, step.now, {"m": torch.full((300,), m, dtype=torch.float64)}).eps for m in (0.3, math.nan))
        entries.append(None if k < 4 else tuple(least_squares([*memory, own], ref, 1e-9)))
        memory += [own, ref]
    once = LinearPlan(3.0, tuple(entries), truth.plan().ratios)
    fresh = batch(200, 5)
    exact, _ = guided(DDIM(), CFG(3.0), LEVELS, fresh, net, m=0.3)

    def error(plan):
        return float(
            (guided(DDIM(), LinearAdaptive(plan), LEVELS, fresh, net, m=0.3)[0] - exact).square().mean().sqrt()
        )

    plain = float((guided(DDIM(), CFG(1.0), LEVELS, fresh, net, m=0.3)[0] - exact).square().mean().sqrt())
    assert error(sequential) < error(once)
    assert error(sequential) < plain


def test_what_the_fit_walked_is_what_the_plan_walks():
    """On the trajectories of the fit, replaying the plan makes the same pictures."""
    x, net = batch(64), Net(V(), MIXTURES)
    learner = LinearFit(3.0, alternate("plain"))
    fitted, _ = guided(DPMSolverPP(2), learner, LEVELS, x, net, m=0.3)
    replayed, field = guided(DPMSolverPP(2), LinearAdaptive(learner.plan("a test")), LEVELS, x, net, m=0.3)
    assert torch.allclose(fitted, replayed, rtol=0, atol=1e-10)
    assert field.spent.tolist() == [[20, 5]] * 64
    assert learner.plan().evaluations == 25


@pytest.mark.parametrize("second", ["replace", "plain"])
def test_twenty_steps_cost_twenty_five(second):
    learner = fit(3.0, alternate(second), MIXTURES)
    _, field = guided(DDIM(), LinearAdaptive(learner.plan()), LEVELS, batch(3, 4), Net(V(), MIXTURES), m=0.3)
    assert field.spent.sum(1).tolist() == [25] * 3
    assert learner.plan().evaluations == 25
    kinds = [None if e is None else len(e) for e in learner.plan().steps]
    assert kinds[:10] == [None if k % 2 == 0 else 2 * k + 1 for k in range(10)]
    assert kinds[10:] == ([2 * k + 1 for k in range(10, 20)] if second == "replace" else [0] * 10)


def test_a_step_that_is_not_guided_is_plain():
    learner = fit(3.0, lambda k: "plain", MIXTURES)
    x = batch(3, 4)
    last, field = guided(DDIM(), LinearAdaptive(learner.plan()), LEVELS, x, Net(V(), MIXTURES), m=0.3)
    assert torch.equal(last, guided(DDIM(), CFG(1.0), LEVELS, x, Net(V(), MIXTURES), m=0.3)[0])
    assert field.spent.tolist() == [[20, 0]] * 3


@pytest.mark.parametrize("rows", [7, 64, 65, 200])
def test_least_squares_is_numpys(rows, monkeypatch):
    monkeypatch.setattr(fitting, "CHUNK", 64)
    rng = np.random.default_rng(rows)
    a, b = rng.normal(size=(rows, 5)), rng.normal(size=rows)
    columns = [torch.from_numpy(v.copy()) for v in a.T]
    assert np.allclose(least_squares(columns, torch.from_numpy(b)), np.linalg.lstsq(a, b)[0], atol=1e-10)
    # regressors that say the same: the least norm shares between them
    found = least_squares([*columns, columns[0]], torch.from_numpy(b))
    assert np.allclose(found, np.linalg.lstsq(np.c_[a, a[:, 0]], b)[0], atol=1e-8)
    # a ridge relative to the mean square of the regressors
    lam = 0.1 * (a**2).sum() / 5
    wanted = np.linalg.solve(a.T @ a + lam * np.eye(5), a.T @ b)
    assert np.allclose(least_squares(columns, torch.from_numpy(b), 0.1), wanted, atol=1e-10)


def test_recalled():
    past = [torch.full((2,), v) for v in (1.0, 10.0, 100.0, 1000.0)]
    assert recalled([1.0, 2.0, 0.0, 3.0, 5.0], past, torch.full((2,), 0.1)).tolist() == pytest.approx([3021.5] * 2)


def test_saved_and_read_again(tmp_path):
    plan = fit(3.0, alternate("plain"), MIXTURES, space=X0()).plan("DDIM, 20 steps")
    plan.save(tmp_path / "plan.json")
    again = LinearPlan.load(tmp_path / "plan.json")
    assert (again.scale, again.space, again.against, again.about) == (3.0, X0(), "ref", "DDIM, 20 steps")
    assert list(again.ratios) == list(plan.ratios)
    assert [e if e is None else list(e) for e in again.steps] == [e if e is None else list(e) for e in plan.steps]
    x = batch(3, 4)
    rules = LinearAdaptive(plan), LinearAdaptive(str(tmp_path / "plan.json"))
    a, b = (guided(DDIM(), rule, LEVELS, x, Net(V(), MIXTURES), m=0.3)[0] for rule in rules)
    assert torch.equal(a, b)
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "deep.json").write_text('{"linear_adaptive": ' + "[" * 100_000 + "]" * 100_000 + "}")
    for file in ("other.json", "none.json", "deep.json"):
        with pytest.raises(ValueError, match="holds no plan of LinearAdaptive"):
            LinearAdaptive(str(tmp_path / file))


def test_refusals():
    plan, x, net = fit(3.0, alternate("replace"), MIXTURES).plan(), batch(2), Net(V(), MIXTURES)
    with pytest.raises(ValueError, match="an end after 20 steps"):
        guided(DDIM(), LinearAdaptive(plan), [*LEVELS[:-1], *trailing(LinearBeta(), 40)[-2:]], x, net, m=0.3)
    with pytest.raises(ValueError, match="the plan was fitted for sigma / alpha"):
        guided(DDIM(), LinearAdaptive(plan), trailing(LinearBeta(), 19), x, net, m=0.3)
    with pytest.raises(ValueError, match="once per step"):
        guided(Heun(), LinearAdaptive(plan), LEVELS, x, net, m=0.3)
    with pytest.raises(ValueError, match="once per step"):
        fit(3.0, alternate("plain"), MIXTURES, sampler=Heun())
    with pytest.raises(ValueError, match="outermost rule"):
        guided(DDIM(), Interval(LinearAdaptive(plan), 0.0, 2.0), LEVELS, x, net, m=0.3)
    with pytest.raises(ValueError, match=r"LinearFit.kind\(0\) is 'other'"):
        fit(3.0, lambda k: "other", MIXTURES)
    for make in (
        lambda: LinearPlan(math.nan, [None], [1.0]),
        lambda: LinearPlan(2.0, [], []),
        lambda: LinearPlan(2.0, [None], [1.0, 2.0]),
        lambda: LinearPlan(2.0, [None, (1.0, 2.0)], [2.0, 1.0]),
        lambda: LinearPlan("2", [None], [1.0]),
        lambda: LinearPlan(2.0, [None], ["1"]),
        lambda: LinearPlan(2.0, [None, ["a", "b", "c"]], [2.0, 1.0]),
        lambda: LinearPlan(2.0, [None, (1.0, math.nan, 1.0)], [2.0, 1.0]),
        lambda: LinearPlan(2.0, [None], [1.0], "Eps"),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()

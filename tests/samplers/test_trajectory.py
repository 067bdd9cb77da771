"""The loop: the table does what the step says, and writes to nothing that is not its own."""

import math

import pytest
import torch
from oracles import ROWS, Mixture, log_grid

from sfumato.samplers import (
    DDIM,
    DDPM,
    GHVB,
    PLMS,
    Churn,
    DPMSolver2,
    DPMSolverPP,
    DPMSolverPP2S,
    Euler,
    GradientEstimation,
    HeavyBall,
    Heun,
    Langevin,
    PredictorCorrector,
    State,
    UniPC,
    move,
    on_path,
    tabulate,
    trajectory,
)
from sfumato.schedules import (
    X0,
    Cosine,
    Eps,
    Level,
    LinearBeta,
    Prediction,
    RectifiedFlow,
    V,
    VarianceExploding,
    trailing,
)

SAMPLERS = [
    DDIM(), DDIM(0.5), DDPM(), DDPM("large"), Heun(), DPMSolverPP(1), DPMSolverPP(2), DPMSolverPP(3), DPMSolverPP(3, 1.0),
    DPMSolverPP(2, 0.4), DPMSolverPP(2, solver="heun"), DPMSolverPP(3, legacy=True), GHVB(0.8), GHVB(1.8), GHVB(3.8), GHVB(4.0), GHVB(5.0),
    Euler(), Euler(1.0), Euler(1.5), DPMSolver2(), DPMSolver2(0.6), DPMSolverPP2S(), DPMSolverPP2S(1.0, 0.3),
    UniPC(1), UniPC(2), UniPC(3), UniPC(4, "bh1"), UniPC(3, "solved"),
    PLMS(1), PLMS(4), PLMS(5), PLMS(4, variable=True), PLMS(4, warm_up="heun"), PLMS(3, warm_up="rk4"), PLMS(4, True, "rk4"),
    HeavyBall(PLMS(1)), HeavyBall(PLMS(4), 0.8), HeavyBall(PLMS(3, variable=True), 0.6, nesterov=True), HeavyBall(DPMSolverPP(2), 0.8),
    HeavyBall(DPMSolverPP(3), 0.9, nesterov=True), GradientEstimation(), GradientEstimation(2.4, 0.5),
    Churn(), Churn(DPMSolver2(), 0.3, 0.0, math.inf), Churn(DDIM(0.5)), PredictorCorrector(),
    PredictorCorrector(DPMSolverPP(2), Langevin("share", 0.05, 2)), PredictorCorrector(Churn(Heun()), Langevin(count=3)),
]  # fmt: skip
NOISE = torch.randn(64, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def noise(i, d):
    return NOISE[i + 16 * d]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def start(levels):
    return levels[0].sigma * torch.tensor([-1.1, -0.3, 0.2, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
@pytest.mark.parametrize(
    "schedule", [VarianceExploding(0.02, 20.0, math.inf), LinearBeta(), RectifiedFlow(), Cosine()], ids=str
)
def test_table_is_the_step_as_written(sampler, schedule):
    levels, sampler = trailing(schedule, 12), on_path(sampler, schedule)
    table = tabulate(sampler, levels)
    assert table.programs is not None
    for row in (None, *ROWS):
        if isinstance(row, Eps) and levels[0].alpha == 0:
            continue
        denoise = Mixture(row=row)
        for _ in range(2):  # the second time the operations come from the table
            fast = [
                (s.x, s.prediction.x0) for s in trajectory(sampler, denoise, levels, start(levels), noise, table=table)
            ]
        plain = [
            (s.x, s.prediction.x0) for s in trajectory(sampler, denoise, levels, start(levels), noise, as_written=True)
        ]
        for (a, p), (b, q) in zip(fast, plain, strict=True):
            assert torch.allclose(a, b, rtol=0, atol=1e-12)
            assert torch.allclose(p, q, rtol=0, atol=1e-12)


def test_mixed_answers_of_one_step():
    """The first evaluation raw, the second a pair: each is read as what it is."""

    class Alternating:
        count = 0

        def __call__(self, x, level):
            self.count += 1
            return Mixture(row=V() if self.count % 2 else None)(x, level)

    levels = log_grid(20, 0.02, 8)
    ends = []
    for as_written in (False, True):
        *_, last = trajectory(Heun(), Alternating(), levels, start(levels), as_written=as_written)
        ends.append(last.x)
    assert torch.allclose(*ends, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_nothing_of_the_users_is_written_to(sampler):
    """x, the network's outputs, the noise, kept states and kept predictions hold their values to the end."""
    levels, held, sampler = trailing(LinearBeta(), 10), [], on_path(sampler, LinearBeta())
    for row in (None, V(), X0(), Eps()):
        held.clear()

        def hold(x, level, row=row):
            p = Mixture(row=row)(x, level)
            for tensor in (x, p.out) if row else (p.x0, p.eps):
                held.append((tensor, tensor.clone()) if tensor is not x else (x.clone(), x.clone()))
            return p

        x = start(levels)
        before = x.clone()
        kept = []
        for step in trajectory(sampler, hold, levels, x, noise):
            if step.index % 2 == 0:  # kept by somebody on some steps only
                kept.append((step.x, step.x.clone(), step.prediction, step.prediction.level))
        held.append((x, before))
        assert all(torch.equal(a, b) for a, b in held)
        assert all(torch.equal(a, b) for a, b, *_ in kept)
        plain = list(trajectory(sampler, hold, levels, before, noise, as_written=True))
        for (_, _, p, _), s in zip(kept, plain[::2], strict=True):
            assert torch.allclose(p.x0, s.prediction.x0, rtol=0, atol=1e-12)


def test_a_loop_without_readers_allocates_next_to_nothing():
    """Buffers are used again: the user's x, and a few for x and the memory, whatever the number of steps."""
    seen = set()
    levels = trailing(LinearBeta(), 40)
    x = torch.randn(4, dtype=torch.float64)
    out = torch.randn(4, dtype=torch.float64)

    def network(x, level):
        seen.add(x.data_ptr())
        return Prediction(x, level, out, V())

    for _ in trajectory(DPMSolverPP(2), network, levels, x):
        pass
    assert len(seen) <= 6


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(2), DPMSolverPP(3), GHVB(), Heun()], ids=str)
def test_who_keeps_a_tensor_keeps_its_values(sampler):
    """A network with a cache, a view of x as its answer, a list of all steps: nothing that is known to somebody is written to."""
    levels = trailing(LinearBeta(), 12)
    cache, views = [], []

    def network(x, level):
        cache.append((x, x.clone()))
        views.append((x[1:], x[1:].clone()))
        return Prediction.pair(x[:], 0.5 * x)

    fast = list(trajectory(sampler, network, levels, start(levels)))
    assert all(torch.equal(a, b) for a, b in cache + views)
    plain = list(
        trajectory(sampler, lambda x, level: Prediction.pair(x[:], 0.5 * x), levels, start(levels), as_written=True)
    )
    for a, b in zip(fast, plain, strict=True):
        assert torch.allclose(a.x, b.x, rtol=0, atol=1e-12)
        assert torch.allclose(a.prediction.x0, b.prediction.x0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(3), Heun()], ids=str)
def test_a_view_alone_keeps_its_values_too(sampler):
    views = []

    def network(x, level):
        views.append((x[1:], x[1:].clone()))
        return Mixture(row=V())(x, level)

    with torch.inference_mode():  # where a view does not refer to its base
        for _ in trajectory(sampler, network, trailing(LinearBeta(), 12), torch.randn(4, dtype=torch.float64)):
            pass
        assert all(torch.equal(a, b) for a, b in views)


def test_storages_and_weak_references_count_as_knowing():
    """Who keeps only the storage, or a cache keyed by the tensor, is not lied to."""
    import weakref

    x = torch.randn(4, dtype=torch.float64)
    storages, dead = [], []
    for step in trajectory(DDIM(), Mixture(row=V()), trailing(LinearBeta(), 12), x):
        storages.append((step.x.untyped_storage(), step.x.clone()))
        dead.append(weakref.ref(step.x))
    for storage, value in storages:
        assert torch.equal(torch.empty(0, dtype=torch.float64).set_(storage), value)


def test_memory_shared_with_another_process_is_left_alone():
    from sfumato.samplers.buffers import _free

    held = [torch.randn(4), torch.randn(4)]
    assert [_free(held, i) for i in range(2)] == [True, True]
    held[0].share_memory_()
    assert [_free(held, i) for i in range(2)] == [False, True]


def test_a_trajectory_may_be_resumed_in_another_mode():
    levels, x = trailing(LinearBeta(), 9), torch.randn(4, dtype=torch.float64)
    for sampler in (DDIM(), DPMSolverPP(3), Heun()):
        *_, wanted = trajectory(sampler, Mixture(row=V()), levels, x)
        inference, plain, recorded = torch.inference_mode, torch.no_grad, torch.enable_grad
        for first, then in ((inference, plain), (inference, recorded), (plain, recorded)):
            with first():
                steps = trajectory(sampler, Mixture(row=V()), levels, x)
                for _ in range(3):
                    next(steps)
            with then():
                *_, last = steps
            assert torch.allclose(last.x, wanted.x, rtol=0, atol=1e-12)


def test_a_table_of_something_else_is_refused():
    levels = trailing(LinearBeta(), 9)
    with pytest.raises(ValueError, match="make one by tabulate"):
        trajectory(DDIM(), Mixture(), levels, start(levels), table=tabulate(DPMSolverPP(), levels))


def test_a_prediction_made_at_another_level_is_read_at_that_level():
    """A model on a table snaps the level to its nearest entry: the answer is solved where it was made."""
    levels = trailing(LinearBeta(), 9)

    def snapped(x, level):
        near = LinearBeta()(round(level.t * 20) / 20 + 0.01)
        return Mixture(row=V())(x, near)

    for sampler in (DDIM(), Heun(), DPMSolverPP(2)):
        *_, a = trajectory(sampler, snapped, levels, start(levels))
        *_, b = trajectory(sampler, snapped, levels, start(levels), as_written=True)
        assert torch.allclose(a.x, b.x, rtol=0, atol=1e-12)


def test_float64_answers_to_float32_noise():
    levels, x = trailing(LinearBeta(), 5), torch.randn(4)
    denoise = lambda x, level: Mixture()(x.double(), level)  # noqa: E731
    for sampler in (DDPM(), DPMSolverPP(2)):
        *_, last = trajectory(sampler, denoise, levels, x, lambda i, d: torch.zeros(4))
        assert last.x.dtype == torch.float32


def test_levels_of_tensors_reach_the_ends_without_nan():
    """A path to exactly no noise, and elements that are clean all along (sigma 0 at both ends of a step)."""
    n = 6
    scalar = trailing(RectifiedFlow(), n)
    batch = [
        Level(0.0, torch.full((2,), v.alpha, dtype=torch.float64), torch.full((2,), v.sigma, dtype=torch.float64))
        for v in scalar
    ]
    x = torch.randn(2, 3, dtype=torch.float64)
    z = torch.randn(n, 2, 3, dtype=torch.float64)
    model = lambda x, level: Mixture(row=V())(x, level.like(x))  # noqa: E731
    for sampler in (DDIM(), DDIM(1.0), DDPM(), DDPM("large"), Heun()):
        *_, a = trajectory(sampler, model, batch, x, lambda i, d: z[i])
        *_, b = trajectory(sampler, model, scalar, x, lambda i, d: z[i])
        assert torch.allclose(a.x, b.x, rtol=0, atol=1e-12)
    clean = torch.tensor([[0.0, 1.0, 1.0]], dtype=torch.float64)
    maps = [Level(0.0, 1 - v.sigma * clean, v.sigma * clean) for v in scalar]
    regular = lambda x, level: Prediction(x, level, torch.zeros_like(x), V())  # noqa: E731
    for sampler in (DDIM(), DDIM(1.0), DDPM(), DDPM("large"), Heun()):
        *_, last = trajectory(sampler, regular, maps, x, lambda i, d: z[i])
        assert torch.isfinite(last.x).all()
        assert torch.allclose(last.x[:, 0], x[:, 0])


def test_what_a_symbol_cannot_do_runs_as_written():
    """A coefficient that is a tensor, a library call that is no torch function, an assertion: all legitimate on tensors."""

    class PerChannel:
        draws = 0

        def step(self, state, denoise, levels, z):
            *_, now, nxt = levels
            p = denoise(state.x, now)
            assert isinstance(p.x0, torch.Tensor)
            return State(nxt.alpha * p.x0 + torch.tensor(nxt.sigma, dtype=torch.float64) * p.eps), p

    levels = trailing(LinearBeta(), 5)
    assert tabulate(PerChannel(), levels).programs is None
    *_, a = trajectory(PerChannel(), Mixture(), levels, start(levels))
    *_, b = trajectory(DDIM(), Mixture(), levels, start(levels))
    assert torch.allclose(a.x, b.x, rtol=0, atol=1e-12)


def test_evaluations_of_each_method():
    levels = trailing(LinearBeta(), 10)
    for sampler, wanted in ((DDIM(), 10), (DPMSolverPP(3), 10), (GHVB(), 10), (Heun(), 19)):
        count = []
        list(
            trajectory(sampler, lambda x, level, c=count: c.append(level) or Mixture()(x, level), levels, start(levels))
        )
        assert len(count) == wanted
        assert [v.t for v in count] == [v.t for v in tabulate(sampler, levels).asked]


def test_a_sampler_that_is_not_linear_runs_as_written():
    class Clipped:
        draws = 0

        def step(self, state, denoise, levels, z):
            *_, now, nxt = levels
            p = denoise(state.x, now)
            x0 = p.x0.clamp(-1, 1)
            return State(nxt.alpha * x0 + nxt.sigma * (state.x - now.alpha * x0) / now.sigma), p

    levels = trailing(LinearBeta(), 5)
    assert tabulate(Clipped(), levels).programs is None
    *_, last = trajectory(Clipped(), Mixture(row=V()), levels, start(levels))
    assert float(last.x.abs().max()) <= 1


def test_a_mistake_in_a_sampler_is_shown_not_hidden():
    class Broken:
        draws = 0

        def step(self, state, denoise, levels, z):
            raise TypeError("a slip of the author")

    levels = trailing(LinearBeta(), 5)
    with pytest.raises(TypeError, match="a slip of the author"):
        list(trajectory(Broken(), Mixture(), levels, start(levels)))


def test_a_step_that_returns_something_else_is_named():
    class Bare:
        draws = 0

        def step(self, state, denoise, levels, z):
            return denoise(state.x, levels[-2]).x0

    levels = trailing(LinearBeta(), 3)
    with pytest.raises(ValueError, match=r"Bare.step returned \(Tensor\); it must return \(State, Prediction\)"):
        list(trajectory(Bare(), Mixture(), levels, start(levels)))


def test_element_wise_and_per_sample_levels():
    """Each element walks its own grid, and arrives where a scalar walk along that grid arrives."""
    grids = [log_grid(20, 0.02, 9), log_grid(5, 0.1, 9)]
    x = torch.randn(2, 1, 2, 2, dtype=torch.float64)
    levels = [
        Level(0.0, 1.0, torch.tensor([a.sigma, b.sigma], dtype=torch.float64)) for a, b in zip(*grids, strict=True)
    ]
    maps = [
        Level(0.0, torch.ones(2, 1, 2, 2, dtype=torch.float64), v.sigma.view(2, 1, 1, 1).expand(2, 1, 2, 2))
        for v in levels
    ]
    for sampler in (DDIM(), DDIM(0.7), DDPM()):
        z = torch.randn(9, 2, 1, 2, 2, dtype=torch.float64)
        alone = [
            list(trajectory(sampler, Mixture(), grids[k], x[k : k + 1], lambda i, d, k=k, z=z: z[i, k : k + 1]))[-1].x
            for k in range(2)
        ]

        def mixture(x, level):
            return Mixture()(x, level.like(x))

        for many in (levels, maps):
            *_, last = trajectory(sampler, mixture, many, x, lambda i, d, z=z: z[i])
            assert torch.allclose(last.x, torch.cat(alone), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="multistep method needs one noise level"):
        list(trajectory(DPMSolverPP(2), mixture, levels, x))


def test_gradients_flow_when_they_are_recorded():
    levels = log_grid(5, 0.1, 4)
    with torch.enable_grad():
        x = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
        *_, last = trajectory(DPMSolverPP(2), Mixture(row=V()), levels, x)
        last.x.sum().backward()
    h = 1e-6
    ends = [list(trajectory(DPMSolverPP(2), Mixture(row=V()), levels, x.detach() + s * h))[-1].x for s in (1, -1)]
    assert torch.allclose(x.grad, (ends[0] - ends[1]) / (2 * h), atol=1e-7)


def test_refusals():
    levels = trailing(LinearBeta(), 3)
    with pytest.raises(ValueError, match=r"draws 1 noise tensor"):
        trajectory(DDIM(0.5), Mixture(), levels, start(levels))
    with pytest.raises(ValueError, match="at least two"):
        trajectory(DDIM(), Mixture(), levels[:1], start(levels))
    for make in (
        lambda: DDIM(1.5),
        lambda: DDPM("huge"),
        lambda: DPMSolverPP(4),
        lambda: DPMSolverPP(2, -1.0),
        lambda: GHVB(5.5),
    ):
        with pytest.raises(ValueError, match="allowed"):
            make()


def test_move_without_correction_is_ddim_in_closed_form():
    p = Prediction.pair(torch.tensor([2.0]), torch.tensor([-1.0]))
    now, nxt = Level(0.5, 0.6, 0.8), Level(0.4, 0.8, 0.6)
    assert move(p, now, nxt).item() == pytest.approx(0.8 * 2 - 0.6)
    assert move(p, now, nxt, fresh=0.36, z=torch.tensor([3.0])).item() == pytest.approx(0.8 * 2 - 0.48 + 0.36 * 3)

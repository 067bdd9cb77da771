"""What the loop refuses, by name; what a step is told; where a path reaches."""

from dataclasses import dataclass

import pytest
import torch
from oracles import Mixture

from sfumato.samplers import (
    DDIM,
    DDPM,
    AdaptiveStep,
    Churn,
    Clipped,
    DPMSolver2,
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
    Cosine,
    LinearBeta,
    Prediction,
    Schedule,
    V,
    trailing,
)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def start(levels):
    return levels[0].sigma * torch.tensor([-1.1, -0.3, 0.2, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("as_written", [False, True])
@pytest.mark.parametrize("sampler", [DDIM(), UniPC(2), Heun()], ids=str)
def test_answers_of_another_shape_are_refused(sampler, as_written):
    """They would broadcast in silence."""
    levels, x = trailing(LinearBeta(), 5), torch.randn(3, 4, dtype=torch.float64)
    wide = lambda x, level: Prediction.pair(x.new_zeros(2, 3, 4), x.new_zeros(2, 3, 4))  # noqa: E731
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\), x has \(3, 4\)"):
        list(trajectory(sampler, wide, levels, x, as_written=as_written))
    if not as_written:
        row = lambda x, level: Prediction(x, level, x[:, :1], V())  # noqa: E731
        with pytest.raises(ValueError, match=r"the network's output has shape \(3, 1\), x has \(3, 4\)"):
            list(trajectory(sampler, row, levels, x))
        narrow = lambda x, level: Prediction.pair(x, x[:, :1])  # noqa: E731
        with pytest.raises(ValueError, match=r"the predicted eps has shape \(3, 1\)"):
            list(trajectory(sampler, narrow, levels, x))


@pytest.mark.parametrize("as_written", [False, True])
def test_noise_of_another_shape_and_whole_numbers_are_refused(as_written):
    levels, x = trailing(LinearBeta(), 5), torch.randn(3, 4, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"the noise of step 0 has shape \(4,\), x has \(3, 4\)"):
        list(trajectory(DDPM(), Mixture(), levels, x, lambda i, d: x[0], as_written=as_written))
    with pytest.raises(ValueError, match=r"x is torch.int64; allowed: a floating dtype"):
        trajectory(DDIM(), Mixture(), levels, x.long(), as_written=as_written)


def test_a_long_walk_costs_the_same_per_step():
    """A step is told of thirty levels behind it, no more: 3000 steps are not 3000 times 3000."""
    seen = []

    class Curious:
        draws = 0

        def step(self, state, denoise, levels, z):
            seen.append(len(levels))
            return DDIM().step(state, denoise, levels, z)

    levels = trailing(LinearBeta(), 200)
    *_, last = trajectory(Curious(), Mixture(), levels, start(levels))
    assert seen == [min(i + 2, 32) for i in range(200)]
    *_, whole = trajectory(DDIM(), Mixture(), levels, start(levels))
    assert torch.equal(last.x, whole.x)


def test_the_path_reaches_samplers_within_samplers():
    nested = PredictorCorrector(Churn(DPMSolver2()))
    bound = on_path(nested, LinearBeta())
    assert bound.predictor.path == LinearBeta()
    assert bound.predictor.sampler.path == LinearBeta()
    assert on_path(bound, Cosine()) == bound  # one that is given stays
    assert on_path(DDIM(), Cosine()) == DDIM()


def test_a_step_may_begin_with_another_x():
    """A method that asks first where x is not: its table computes that place, too."""

    class Ahead:
        draws = 0

        def step(self, state, denoise, levels, z):
            *_, now, nxt = levels
            p = denoise(0.9 * state.x, now)
            q = denoise(state.x, now)
            return State(0.5 * move(p, now, nxt) + 0.5 * move(q, now, nxt)), q

    levels = trailing(LinearBeta(), 8)
    assert tabulate(Ahead(), levels).programs is not None
    for row in (None, V()):
        ends = [
            list(trajectory(Ahead(), Mixture(row=row), levels, start(levels), as_written=w))[-1].x
            for w in (True, False)
        ]
        assert torch.allclose(*ends, rtol=0, atol=1e-12)


def test_a_path_reaches_every_part_that_asks_for_one():
    """Correctors and tuples too; a field named path that is no schedule is left alone."""

    @dataclass(frozen=True)
    class Log:
        steps: tuple = (DPMSolver2(), DDIM())
        path: str | None = None

    @dataclass(frozen=True)
    class Corrects:
        path: Schedule | None = None
        draws = 0

        def correct(self, x, denoise, now, nxt, z):
            return x

    found = on_path(Log(), Cosine())
    assert found.path is None
    assert found.steps == (DPMSolver2(path=Cosine()), DDIM())
    assert on_path(PredictorCorrector(corrector=Corrects()), Cosine()).corrector.path == Cosine()


def test_what_is_no_sampler_no_level_and_no_prediction_is_named():
    levels, x = trailing(LinearBeta(), 5), torch.randn(3, 4, dtype=torch.float64)
    for wrong in (DDIM, "DDIM"):
        with pytest.raises(ValueError, match=r"allowed: an object with draws and step, such as DDIM\(\)"):
            trajectory(wrong, Mixture(), levels, x)
    with pytest.raises(ValueError, match="a grid makes them"):
        trajectory(DDIM(), Mixture(), [1.0, 0.5, 0.0], x)
    with pytest.raises(ValueError, match="denoise returned a tuple; allowed: a Prediction"):
        list(trajectory(DDIM(), lambda x, level: (x, x), levels, x))
    with pytest.raises(ValueError, match="such as Brownian"):
        trajectory(DDPM(), Mixture(), levels, x)


def test_a_step_that_returns_in_the_wrong_order_is_named():
    class Swapped:
        draws = 0

        def step(self, state, denoise, levels, z):
            return DDIM().step(state, denoise, levels, z)[::-1]

    with pytest.raises(
        ValueError, match=r"Swapped.step returned \(Prediction, State\); it must return \(State, Prediction\)"
    ):
        list(trajectory(Swapped(), Mixture(), trailing(LinearBeta(), 5), torch.randn(3, dtype=torch.float64)))


@pytest.mark.parametrize(
    "make", [lambda: Churn(None), lambda: Churn(Heun), lambda: Clipped("DDIM"), lambda: PredictorCorrector(Langevin())]
)
def test_a_part_within_a_sampler_is_one(make):
    with pytest.raises(ValueError, match="which is no Sampler; give an object"):
        make()


def test_a_corrector_is_one():
    with pytest.raises(ValueError, match=r"allowed: a corrector, such as Langevin\(\)"):
        PredictorCorrector(DDIM(), DDIM())


def moving(x, level):
    """A prediction that moves x after the step, as CFG++'s."""
    p = Mixture(row=V())(x, level)
    return p.steered(Prediction(x, level, 2 * p.out, V()))


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        (UniPC(2), "UniPC was given a guidance that moves x .* its corrector would undo that"),
        (Clipped(DDIM()), r"Threshold\(CFGPlusPlus"),
        (AdaptiveStep(), "steps are of no fixed number; take CFG"),
        (PredictorCorrector(DDIM(), Langevin()), "give the corrector a rule of its own"),
    ],
    ids=str,
)
def test_samplers_that_would_undo_or_misread_a_move_refuse_it(sampler, words):
    x, levels = torch.randn(2, 1, dtype=torch.float64), trailing(LinearBeta(), 3)
    with pytest.raises(ValueError, match=words):
        list(trajectory(on_path(sampler, LinearBeta()), moving, levels, x, lambda step, draw: x))

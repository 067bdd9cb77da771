"""A walk that nobody watches writes over what it alone knows: the same bits, and nothing of anybody else's."""

import gc

import pytest
import torch

from sfumato.samplers import DDIM, DDPM, UniPC, trajectory
from sfumato.samplers.plan import bind
from sfumato.samplers.walk import tabulate
from sfumato.schedules import Prediction
from sfumato.tools.bench.count import count
from sfumato.tools.bench.methods import METHODS, ROWS, levels_for

LEVELS = levels_for(ROWS["v"], 14)


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def noise(step, draw):
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step + 1))


def start():
    return LEVELS[0].sigma * torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def answer(x, level, rows, out=None):
    out = torch.tanh(0.5 * x) if out is None else out
    return Prediction.pair(out, torch.tanh(x)) if ROWS[rows] is None else Prediction(x, level, out, ROWS[rows])


def end(sampler, denoise, predictions):
    states = []
    for step in trajectory(sampler, denoise, LEVELS, start(), noise, predictions=predictions):
        states.append(step.x.clone())
        del step
    return torch.stack(states)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rows", ROWS)
def test_the_same_bits_whether_watched_or_not(name, rows):
    found = [end(METHODS[name].sampler, lambda x, level: answer(x, level, rows), kept) for kept in (True, False)]
    assert torch.equal(*found)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rows", ROWS)
def test_what_somebody_keeps_is_left_alone(name, rows):
    """The x that the network was shown and its answer, kept now and then: as they are, as a view, as an array, in a graph of autograd."""
    coins, held, graphs = torch.Generator().manual_seed(5), [], []

    def flip():
        return torch.rand((), generator=coins) < 0.25

    def denoise(x, level):
        p = answer(x, level, rows)
        for tensor in (x, p.x0 if ROWS[rows] is None else p.out):
            if flip():
                held.append((tensor, tensor.clone()))
            if flip():
                held.append((tensor.reshape(-1)[3:], tensor.reshape(-1)[3:].clone()))
            if flip():
                held.append((tensor.numpy(), tensor.clone()))
            if flip():
                with torch.enable_grad():
                    weight = torch.ones_like(tensor, requires_grad=True)
                    graphs.append(((weight * tensor).sum(), weight, tensor.clone()))
        return p

    kept = end(METHODS[name].sampler, denoise, predictions=False)
    gc.collect()
    assert torch.equal(kept, end(METHODS[name].sampler, lambda x, level: answer(x, level, rows), predictions=True))
    assert len(held) > 10
    assert all(torch.equal(torch.as_tensor(a), b) for a, b in held)
    for loss, weight, value in graphs:
        assert torch.equal(torch.autograd.grad(loss, weight)[0], value)


@pytest.mark.parametrize("name", ["DDIM", "DPMSolverPP(2)", "UniPC(2)"])
@pytest.mark.parametrize(
    "other",
    [lambda out: out.to(memory_format=torch.channels_last), lambda out: out[:1, :1, :1, :1].expand(out.shape),
     lambda out: torch.nn.Parameter(out, requires_grad=False)],
    ids=["channels last", "expanded", "a parameter"],
)  # fmt: skip
def test_answers_that_lie_otherwise_in_memory_change_nothing(name, other):
    """x keeps its own layout, so that the network always sees the same, watched or not."""
    strides = set()

    def denoise(x, level):
        strides.add(x.stride())
        return answer(x, level, "v", other(torch.tanh(0.5 * x)))

    found = [end(METHODS[name].sampler, denoise, kept) for kept in (True, False)]
    assert torch.equal(*found)
    assert strides == {start().stride()}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", METHODS)
def test_an_unwatched_step_needs_no_memory(name, rows):
    """No tensor of its own per step: x is written over x, memory over the oldest, with the network's answers where they fall free."""
    x = torch.randn(1, 3, 32, 32)
    levels, z = levels_for(ROWS[rows], 30), torch.empty_like(x)

    def walk(network, x):
        def denoise(x, level):
            out = network(x)
            return Prediction.pair(out, out) if ROWS[rows] is None else Prediction(x, level, out, ROWS[rows])

        for _ in trajectory(
            METHODS[name].sampler, denoise, levels, x, lambda step, draw: z.normal_(), predictions=False
        ):
            pass

    assert count(walk, x, 10, 8).fresh == pytest.approx(0, abs=0.01)


def test_the_first_x_is_never_written_to():
    x = start()
    before = x.clone()
    for sampler in (DDIM(), DDPM(), UniPC(2)):
        for _ in trajectory(sampler, lambda x, level: answer(x, level, "v"), LEVELS, x, noise, predictions=False):
            pass
        assert torch.equal(x, before)


@pytest.mark.parametrize("lend", [torch.from_numpy, torch.from_dlpack], ids=["numpy", "DLPack"])
@pytest.mark.parametrize("rows", ROWS)
def test_lent_memory_is_left_alone(rows, lend):
    """A tensor around somebody's array is known to the walk alone, and its memory is not: the first x, answers in one array, noise."""
    given, table = start().numpy().copy(), torch.stack([noise(i, 0) for i in range(14)]).numpy()
    answers, before, levels = [given.copy(), given.copy()], (given.copy(), table.copy()), levels_for(ROWS[rows], 14)

    def denoise(x, level):
        for array, out in zip(answers, (torch.tanh(0.5 * x), torch.tanh(x)), strict=True):
            array[:] = out.numpy()
        outs = [lend(array) for array in answers]
        return Prediction.pair(*outs) if ROWS[rows] is None else Prediction(x, level, outs[0], ROWS[rows])

    for sampler in (DDIM(), DDPM()):
        found = []
        for network in (denoise, lambda x, level: answer(x, level, rows)):
            for step in trajectory(
                sampler, network, levels, lend(given), lambda step, draw: lend(table[step]), predictions=False
            ):
                found.append(step.x.clone())
                del step
        assert torch.equal(torch.stack(found[:14]), torch.stack(found[14:]))
    assert all((now == then).all() for now, then in zip((given, table), before, strict=True))


@pytest.mark.parametrize("predictions", [True, False])
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("name", METHODS)
def test_x_is_in_no_graph_of_a_network(name, rows, predictions):
    """A network that records gradients of its own: its answer has a history, which is not that of an x written over it."""
    recorded = []

    def denoise(x, level):
        recorded.append(x.requires_grad)
        with torch.enable_grad():
            out = torch.tanh(0.5 * x) + torch.zeros_like(x, requires_grad=True)
        return answer(x, level, rows, out)

    end(METHODS[name].sampler, denoise, predictions)
    assert not any(recorded)


def test_a_step_without_a_prediction_says_so():
    step = next(trajectory(DDIM(), lambda x, level: answer(x, level, "v"), LEVELS, start(), predictions=False))
    with pytest.raises(ValueError, match="keeps no prediction; make the trajectory with predictions=True"):
        step.prediction.x0  # noqa: B018
    with pytest.raises(ValueError, match="predictions=True"):
        step.prediction.eps  # noqa: B018


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rows", ROWS)
def test_a_result_is_written_over_nothing_that_is_still_read(name, rows):
    """Of every step, by the list of what each operation reads."""
    sampler, row = METHODS[name].sampler, ROWS[rows]
    table = tabulate(sampler, LEVELS)
    scales = ()
    for program in table.programs:
        plan = bind(program, [row] * len(program.asks), scales, sampler.draws)
        recipes = [*plan.computed, plan.x]
        there = 1 + len(scales) + sampler.draws + len(program.asks) * (2 if row is None else 1)
        for n, recipe in enumerate(recipes):
            later = {k for k, _ in (*recipe.lerped, *recipe.added)} | set(plan.memory)
            for other in recipes[n + 1 :]:
                later |= {other.first, other.second} | {k for k, _ in (*other.lerped, *other.added)}
            assert not later & set(recipe.over)
            assert all(0 <= k < there + n for k in recipe.over)
        scales = plan.scales

"""What a step costs beside the network, counted: operations, small tensors, syncs, allocations. Times are for tools/bench."""

import pytest
import torch

from sfumato.samplers import PLMS, trajectory
from sfumato.samplers.form import Form
from sfumato.samplers.plan import _recipe, _share
from sfumato.schedules import Cosine, Level, LinearBeta, Prediction, trailing
from sfumato.tools.bench.methods import METHODS, ROWS, levels_for
from sfumato.tools.bench.samplers import counted

RAW = [(name, rows) for name in METHODS for rows in ("x0", "v")]
COUNTED = ["DDIM", "Heun", "DPMSolverPP(2)", "UniPC(2)", "GHVB(3.8)", "DDPM"]


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def end(sampler, levels, row, noise, as_written=False):
    x = levels[0].sigma * torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def denoise(x, level):
        out = torch.tanh(0.5 * x)
        size = (level.alpha**2 + level.sigma**2) ** 0.5
        return Prediction.pair(out, torch.tanh(x / size)) if row is None else Prediction(x, level, out, row)

    *_, last = trajectory(sampler, denoise, levels, x, noise, as_written=as_written)
    return x, last.x


def noise(step, draw):
    return torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step + 1))


@pytest.mark.parametrize(("name", "rows"), RAW)
def test_a_floor_is_the_same_method(name, rows):
    """What is compared by its time is compared by its result first."""
    method, row = METHODS[name], ROWS[rows]
    levels = levels_for(row, 14)
    x, ours = end(method.sampler, levels, row, noise)
    floor = method.floor(levels, row, noise)(lambda x: torch.tanh(0.5 * x), x)
    assert float((floor - ours).abs().max()) <= 1e-12 * float(ours.abs().max())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("path", ["ve", "edm", "linear", "cosine"])
def test_shared_operations_compute_the_step_as_written(name, rows, path):
    """Every method, also where a step is said through memory that it has just computed."""
    levels = {
        "ve": lambda: levels_for(ROWS["x0"], 14),
        "edm": lambda: [Level(0.0, v.alpha / (v.alpha**2 + v.sigma**2) ** 0.5, v.sigma / (v.alpha**2 + v.sigma**2) ** 0.5)
                        for v in levels_for(ROWS["x0"], 14)],
        "linear": lambda: levels_for(ROWS["v"], 14),
        "cosine": lambda: trailing(Cosine(), 14),
    }[path]()  # fmt: skip
    sampler, row = METHODS[name].sampler, ROWS[rows]
    _, fast = end(sampler, levels, row, noise)
    _, plain = end(sampler, levels, row, noise, as_written=True)
    assert float((fast - plain).abs().max()) <= 1e-12 * float(plain.abs().max())


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("rows", ROWS)
def test_a_step_costs_what_it_must(name, rows):
    """At most one operation above the minimal loop; nothing small, no read by the host, no tensor of its own once it runs."""
    counts = counted(name, rows)
    floor, ours = counts["floor"], counts["ours"]
    if rows != "pair":  # which is two tensors where the floor has one
        assert ours["full"] <= floor["full"] + 1
    assert ours["small"] == ours["syncs"] == 0
    assert ours["fresh"] == pytest.approx(0, abs=0.01)


def test_the_count_counts():
    """A loop that allocates, reads a number and makes small tensors is found out."""
    from sfumato.tools.bench.count import count

    def wasteful(network, x):
        for _ in range(12):
            scale = torch.tensor(0.5) * 0.5
            x = x + scale.item() * network(x)

    found = count(wasteful, torch.randn(1, 3, 32, 32), 2, 8)
    assert (found.full, found.syncs) == (2, 1)
    assert found.small >= 2
    assert found.fresh == pytest.approx(2, abs=0.02)


@pytest.mark.parametrize("name", [*METHODS, "PLMS(4, rk4)"])
@pytest.mark.parametrize("rows", ROWS)
def test_what_is_kept_now_and_then_keeps_its_values(name, rows):
    """Inputs, answers and states held by somebody in some evaluations only, so that buffers change hands in every order."""
    sampler = PLMS(4, warm_up="rk4", path=LinearBeta()) if name not in METHODS else METHODS[name].sampler
    levels, row, held = levels_for(ROWS["v"], 16), ROWS[rows], []
    keep = torch.Generator().manual_seed(3)

    def maybe(*tensors):
        held.extend((t, t.clone()) for t in tensors if torch.rand((), generator=keep) < 0.4)

    def denoise(x, level):
        out = torch.tanh(0.5 * x)
        p = Prediction.pair(out, torch.tanh(x)) if row is None else Prediction(x, level, out, row)
        maybe(x, x[1:], out)
        return p

    x = torch.randn(2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ends = []
    for as_written in (False, True):
        for step in trajectory(sampler, denoise, levels, x, noise, as_written=as_written):
            maybe(step.x)
            last = step.x
        ends.append(last)
    assert all(torch.equal(a, b) for a, b in held)
    assert float((ends[0] - ends[1]).abs().max()) <= 1e-12 * float(ends[1].abs().max())


def test_operations_that_would_cancel_are_not_taken():
    """Fewer operations are not worth lost digits: no lerp by a hundred, no detour over a far larger sum."""
    assert _recipe(Form({"x": 101.0, "o0": -100.0}), {"x": 0, "o0": 1}).kind == "mul"
    assert _recipe(Form({"x": 1.5, "o0": -0.5}), {"x": 0, "o0": 1}).kind == "lerp"
    form = Form({"x": 1.0, "o0": 1.0})
    assert _share(form, [("n0", Form({"x": 1.0, "o0": 1.0, "m0": 100.0}))]).terms == form.terms
    near = Form({"x": 1.0, "o0": 1.0, "m0": 2.0})
    assert _share(near, [("n0", form)]).terms == {"m0": 2.0, "n0": 1.0}

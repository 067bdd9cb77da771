"""What filters of the trajectory cost, counted: operations, allocations, reads by the host. Times are for tools/bench."""

import pytest
import torch
from oracles import Mixture

from sfumato.samplers import DDIM, DPMSolverPP, Heun, trajectory
from sfumato.samplers.filters import PathLength, RenoiseProbe, TrajectoryVariance
from sfumato.schedules import LinearBeta, Prediction, V, trailing
from sfumato.tools.bench.filters import FILTERS, added
from sfumato.tools.bench.main import Bench
from sfumato.tools.bench.sheet import read

# full-tensor and small operations per step, beside solving for x0
MOST = {"TrajectoryVariance": (3, 0), "TrajectoryVariance.paper": (3, 0), "PathLength": (2, 2)}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("rows", ["x0", "v", "pair"])
def test_a_step_costs_a_few_operations_and_no_wait(name, rows):
    """With v the sampler needs no x0, so the filter solves for it: c x + d out is two operations."""
    found, solved = added(name, rows), 2 if rows == "v" else 0
    full, small = MOST[name]
    assert found.full == full + solved
    assert found.small == small
    assert found.syncs == 0
    assert found.fresh <= full + solved + 0.01


@pytest.mark.parametrize("sampler", [DDIM(), DPMSolverPP(), Heun()], ids=str)
def test_a_walk_never_reads_a_tensor(sampler):
    """On the meta device, where there is nothing to be read: init and every update, also of the probe that asks and draws."""
    x = torch.empty(2, 3, 8, 8, device="meta")
    levels = trailing(LinearBeta(), 12)
    judges = [*FILTERS.values(), RenoiseProbe(1.0, k=2, path=LinearBeta())]
    memories = [judge.init(x, levels) for judge in judges]
    with torch.no_grad():
        for step in trajectory(
            sampler, lambda x, level: Prediction(x, level, torch.tanh(x), V()), levels, x,
            lambda step, draw: torch.empty_like(x),
        ):  # fmt: skip
            memories = [judge.update(m, step) for judge, m in zip(judges, memories, strict=True)]
    assert memories[0].spread.is_meta
    assert memories[2].length.is_meta
    assert memories[3].shape == (2,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_added_up_in_float32(dtype):
    """A thousandth of what was there before is not lost, over many steps."""
    x = torch.zeros(1, 4, dtype=dtype)
    levels = trailing(LinearBeta(), 400)
    told = iter([(0.0101, 1.0)[i % 2] for i in range(400)])  # whose difference half precision rounds
    judges = [TrajectoryVariance(low=-99.0, weight="steps"), PathLength(low=-99.0)]
    memories = [judge.init(x, levels) for judge in judges]
    with torch.no_grad():
        for step in trajectory(
            DDIM(), lambda x, level: Prediction.pair(torch.full_like(x, next(told)), torch.zeros_like(x)), levels, x
        ):
            memories = [judge.update(m, step) for judge, m in zip(judges, memories, strict=True)]
    half = (1.0 - float(torch.tensor(0.0101, dtype=dtype))) / 2
    variance, length = (float(judge.verdict(m).score) for judge, m in zip(judges, memories, strict=True))
    assert variance == pytest.approx(half**2, rel=1e-5)
    assert length == pytest.approx(399 * 2 * half, rel=1e-5)


def test_what_a_filter_was_shown_it_holds():
    """PathLength keeps the prediction as it is: the loop gives none of its buffers away that somebody holds, in any method."""
    levels = trailing(LinearBeta(), 12)
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    judge = PathLength(low=-99.0)
    for sampler in (DDIM(), DPMSolverPP(3), Heun()):
        scores = []
        for as_written in (False, True):
            memory = judge.init(x, levels)
            with torch.no_grad():
                for step in trajectory(sampler, Mixture(row=V()), levels, x, as_written=as_written):
                    memory = judge.update(memory, step)
                    del step
            scores.append(judge.verdict(memory).score)
        assert torch.allclose(*scores, rtol=1e-10)


def test_bench_filters_is_a_command(tmp_path, capsys):
    from sfumato.tools.cli import main

    assert main(["bench", "filters", "--quick", "--only", "PathLength", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "DiT-S/2" in said
    rows = read(tmp_path / "filters-quick.json")
    assert {k: cell.value for k, cell in rows["PathLength, v"].items()} == pytest.approx(
        {"full-tensor operations": 4, "small operations": 2, "syncs": 0, "fresh tensors": 3}, abs=0.01
    )
    assert rows["DiT-S/2, 1 x 4 x 32 x 32"]["PathLength"].value > 0
    with pytest.raises(ValueError, match="allowed: samplers, filters"):
        Bench("nothing")
    with pytest.raises(ValueError, match="allowed: TrajectoryVariance"):
        Bench("filters", only="DDIM")

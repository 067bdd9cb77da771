"""`sfumato bench gpu`: the same lines run here on tiny networks, and are refused as a measurement without a GPU."""

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from sfumato.tools.bench import gpu, gpu_clock, gpu_sampling, gpu_waits
from sfumato.tools.bench.gpu import GPU
from sfumato.tools.bench.gpu_clock import flops, spread
from sfumato.tools.bench.gpu_runs import TRAINED, Normals, dit
from sfumato.tools.bench.gpu_sampling import VARIANTS
from sfumato.tools.bench.kind import Ask
from sfumato.tools.bench.sheet import Cell, Sheet
from sfumato.tools.bench.wheels import closure
from sfumato.tools.cli import main

WITHOUT = not torch.cuda.is_available()


def measured(only):
    sheet = Sheet("gpu", lambda line: None, True)
    GPU.measure(Ask(only, quick=True), sheet)
    return sheet


@pytest.mark.parametrize("name", TRAINED)
def test_training_is_measured_with_its_share_and_memory(name):
    cells = measured(name).rows[f"training {name}"]
    assert cells["images per second"].unit == "img/s"
    assert (cells["batch"].value, cells["micro-batch"].value) == (8, 8)
    assert 0 < cells["predicted"].value < cells["memory"].value
    assert cells["off the prediction"].value == pytest.approx(cells["memory"].value / cells["predicted"].value - 1)
    # the share is of the rate that was measured beside it
    network, shape = TRAINED[name].make(True), TRAINED[name].data(True).shape
    operations = 3 * flops(lambda: network.to("meta"), shape)
    rate = cells["matrix product"].value * 1e12
    assert cells["MFU"].value == pytest.approx(operations * cells["images per second"].value / rate, rel=0.05)


def test_sampling_counts_its_evaluations():
    rows = measured("sampling").rows
    evaluations = [
        rows[f"DiT-XL/2 in 50 steps, {rule}"]["evaluations"] for rule in ("unguided", "CFG", "CFG in an interval")
    ]
    assert [cell.value for cell in evaluations] == [3, 6, 5]
    assert all(cell.exact for cell in evaluations)


def test_rates_and_shares_are_of_what_was_done(monkeypatch):
    """Seconds of every round are given here: a quarter of one."""
    for module in (gpu_clock, gpu_sampling):
        monkeypatch.setattr(module, "rounds", lambda device, work, count: [0.25] * count)
    assert gpu_clock.matmul_rate(torch.device("cpu"), 16, 2) == [10 * 2 * 16**3 / 0.25] * 2
    rows, operations = measured("sampling").rows, flops(lambda: dit("XL/2", True), (4, 8, 8))
    rate = 20 * 256**3 / 0.25
    for rule, evaluations in (("unguided", 3), ("CFG", 6)):
        cells = rows[f"DiT-XL/2 in 50 steps, {rule}"]
        assert cells["images per second"].value == 4 / 0.25
        assert cells["MFU"].value == pytest.approx(4 * evaluations * operations / 0.25 / rate)
    assert measured("step").rows["DiT-XL/2, one picture, as written"]["step"].value == pytest.approx(250 / 3)


@pytest.mark.skipif(not WITHOUT, reason="there is a GPU")
def test_a_step_is_measured_as_written_and_compiled_and_graphs_need_a_gpu():
    sheet = measured("step")
    assert list(sheet.rows) == [f"DiT-XL/2, one picture, {name}" for name in VARIANTS if "graph" not in name]
    assert list(sheet.absent) == ["one picture, graph", "one picture, compiled, graph"]


def test_blocks_are_compiled_once_each_kind(monkeypatch):
    monkeypatch.setattr(gpu, "COMPILED", ("DiT",))  # a UNet's kinds take long to trace
    rows = measured("compiling").rows
    assert [rows["compiling DiT"][key].value for key in ("blocks", "graphs", "recompiles")] == [2, 1, 0]
    assert all(rows["compiling DiT"][key].exact for key in ("blocks", "graphs", "recompiles"))


def test_every_sampler_and_rule_walks_and_what_waits_is_said(monkeypatch):
    sheet = measured("waits")
    assert {row["steps"].value for row in sheet.rows.values()} == {4}
    assert "DDIM under Autoguidance" in sheet.rows

    def raising(walk, sampler, rule):
        return {}, "called a synchronizing CUDA operation"

    monkeypatch.setattr(gpu, "walked", raising)
    assert "Heun under CFG waits for the device: called a synchronizing CUDA operation" in measured("waits").notes


@pytest.mark.skipif(not WITHOUT, reason="there is a GPU")
def test_an_error_that_is_no_wait_is_not_taken_for_one(monkeypatch):
    walk = gpu_waits.Walked(torch.device("cpu"), True)
    failing = {"calls": 0}

    def network(x, level, condition):
        failing["calls"] += 1
        raise RuntimeError(said)

    walk.branches = {name: branch._replace(network=network) for name, branch in walk.branches.items()}
    said = "called a synchronizing CUDA operation"
    assert walk(gpu_waits.SAMPLERS["DDIM"], gpu_waits.RULES["Plain"]) == (0, said)
    said = "out of luck"
    with pytest.raises(RuntimeError, match="out of luck"):
        walk(gpu_waits.SAMPLERS["DDIM"], gpu_waits.RULES["Plain"])
    assert failing["calls"] == 2


def test_what_holds_on_a_cpu_is_zero_there(tmp_path):
    for name in ("resume", "noise", "out-of-memory"):
        assert main(["bench", "gpu", "--quick", "--only", name, "--out", str(tmp_path / name)]) == 0
    found = {
        row: {column: cell["value"] for column, cell in cells.items()}
        for name in ("resume", "noise", "out-of-memory")
        for row, cells in json.loads((tmp_path / name / "gpu-quick.json").read_text())["rows"].items()
    }
    assert found["resume"] == {"resumed apart": 0.0, "repeated apart": 0.0}
    assert found["noise"] == {"gaussian, other bits": 0, "uniform, other bits": 0}
    assert (found["out of memory"]["micro-batch"], found["out of memory"]["made"]) == (8, 1)


def test_every_goal_is_of_a_row_that_is_measured():
    """The rows that a GPU alone can give are known by the names of others."""
    rows = {**measured("noise").rows, **measured("resume").rows, **measured("DiT-B/2").rows, **measured("waits").rows}
    goals = [goal for goal in GPU.goals if goal.row in rows]
    assert len(goals) > 25
    for goal in goals:
        assert goal.column == "waits" or goal.column in rows[goal.row], goal
    assert {goal.row for goal in GPU.goals} - set(rows) == {
        "training DiT-XL/2", "training DDPM++", "training DDPM++-augmented", "DiT-XL/2 in 50 steps, unguided", "DiT-XL/2 in 50 steps, CFG",
        "DiT-XL/2, one picture, compiled, graph", "compiling DiT", "compiling UNet", "out of memory",
    }  # fmt: skip


def test_the_networks_are_the_published_ones():
    assert flops(lambda: dit("XL/2", False), (4, 32, 32)) == pytest.approx(2 * 118.62e9, rel=1e-3)
    assert flops(lambda: TRAINED["DDPM++"].make(False), (3, 32, 32)) == pytest.approx(2 * 21.19e9, rel=1e-3)
    data = Normals((3, 8, 8), 10, 0.5)
    assert data.batch(torch.arange(64)).x.std().item() == pytest.approx(0.5)
    assert spread([1.0, 2.0, 4.0], "s").value == 2.0


@pytest.mark.skipif(not WITHOUT, reason="there is a GPU")
def test_it_is_refused_without_a_gpu(capsys, tmp_path):
    assert main(["bench", "gpu", "--out", str(tmp_path)]) == 2
    assert "sees no GPU; run it on one, or add --quick" in capsys.readouterr().err
    assert (
        main(["bench", "gpu", "--only", "noise", "--out", str(tmp_path)]) == 2
    )  # whose bits would be held against themselves


def test_rows_that_were_measured_one_by_one_are_read_together(tmp_path, capsys):
    for only, row in (("noise", "noise"), ("step", "DiT-XL/2, one picture, compiled, graph")):
        sheet = Sheet("gpu", lambda line: None)
        sheet.add(row, {"step": Cell(0.5, unit="ms"), "gaussian, other bits": Cell(3, unit="")})
        sheet.write(tmp_path / only)
    assert main(["bench", "goals", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "kept          a step of one picture, DiT-XL/2, one H200: 0.50 ms, goal <= 1 ms" in said
    assert "short         bits of the noise on the GPU, gaussian: 3, goal <= 0" in said


def test_make_names_every_row():
    made = (Path(__file__).parents[2] / "Makefile").read_text()
    (rows,) = (line.removeprefix("ROWS ?= ").split() for line in made.splitlines() if line.startswith("ROWS ?= "))
    assert rows == list(GPU.names)


def test_wheels_are_what_is_needed_and_not_there():
    every, fewer = (
        closure("sfumato", without, "3.12") for without in (["torch"], ["torch", "diffusers", "huggingface-hub"])
    )
    assert {"einops", "jsonargparse", "docstring-parser", "safetensors", "huggingface-hub", "numpy"} <= every.keys()
    assert not {"torch", "sfumato", "sympy", "gradio", "pytest", "tomli"} & every.keys()
    assert fewer.keys() <= every.keys() - {"diffusers", "huggingface-hub", "hf-xet"}  # the last only they need
    assert every["einops"] == version("einops")

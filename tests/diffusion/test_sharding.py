"""Weights, gradients, optimizer and average split over processes: the same run as when each holds everything."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from sfumato.diffusion import Digits, DiT, LearnedUncertainty, LogSNRClock, Recipe, load, train
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.interrupt import Told
from sfumato.diffusion.rehearsal import Rehearsal
from sfumato.diffusion.run import Run
from sfumato.diffusion.shards import groups, is_shard
from sfumato.schedules import EDM, LogNormal, RectifiedFlow


def recipe(**changes):
    torch.manual_seed(0)
    net = DiT(channels=1, size=8, num_classes=10, width=16, depth=2, heads=2)
    for parameter in net.parameters():  # blocks that are the identity at first would hide what is wrong within
        nn.init.normal_(parameter, std=0.1)
    values = {
        "data": Digits(), "backbone": net, "schedule": RectifiedFlow(), "row": EDM(0.75), "clock": LogSNRClock(),
        "density": LogNormal(-0.8, 1.2), "objective": LearnedUncertainty(32), "steps": 6, "batch": 12, "micro_batch": 4, "lr": 2e-3,
        "warmup": 2, "ema": 0.9, "threads": 1, "log_every": 1, "sampling_steps": 3, "tracker": None, "clip": 0.5,
        "validation": Digits(), "validate_every": 3, "validation_samples": 9,
        "ema_lengths": (0.1,), "snapshot_every": 3, "snapshot_dtype": "float32",
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def launch(folder, code):
    """Run code in two processes, `folder` and the names of this file at hand."""
    script = folder / "script.py"
    here = str(Path(__file__).parent)
    script.write_text(
        f"import sys\nsys.path.insert(0, {here!r})\nfrom test_sharding import *\nfolder = Path({str(folder)!r})\n{code}"
    )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=env, timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tensors(folder):
    """Everything of a run's newest checkpoint, whole, but what was watched: the gradient of one process alone is not seen in parts."""
    found = newest(folder / "checkpoints")
    names = [name for name in found.names if name not in ("noise_scale", "growth")]
    return {f"{name}/{k}": v for name in names for k, v in found.tensors(name).items()}


def apart(a, b):
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return [line["loss"] for line in lines(folder) if "loss" in line]


def validated(folder):
    return [line["validation"]["loss"] for line in lines(folder) if "validation" in line]


def stop_at(step, r, folder):
    """Make the first steps of a run, and save."""
    run = Run(r, folder, Told())
    try:
        run.claim(True, False)
        run.backbone.train()
        while run.step < step:
            run.make()
        run.save()
    finally:
        run.close()


TWO = """
import dataclasses
from sfumato.diffusion.rehearsal import rehearse
tried = rehearse(recipe(parallel="fsdp"), folder / "nowhere")
(folder / "rehearsal.json").write_text(json.dumps(dataclasses.asdict(tried)))
for name, more in (("single", {}), ("double", {"precision": "fp64"})):
    train(recipe(**more), folder / f"ddp-{name}", progress=False)
    train(recipe(**more, parallel="fsdp", sample_every=3), folder / f"fsdp-{name}", progress=False)
stop_at(3, recipe(parallel="fsdp"), folder / "stopped")
train(recipe(parallel="fsdp"), folder / "stopped", resume=True, progress=False)
stop_at(2, recipe(), folder / "changing")
stop_at(4, recipe(parallel="fsdp", gradient_checkpointing=True), folder / "changing")
train(recipe(), folder / "changing", resume=True, progress=False)
stop_at(3, recipe(parallel="fsdp"), folder / "fewer")
train(recipe(parallel="fsdp"), folder / "more", resume=True, progress=False)
for parallel in ("ddp", "fsdp"):
    half = recipe(parallel=parallel, precision="bf16", steps=24, batch=32, micro_batch=None, sample_every=24)
    train(half, folder / f"bf16-{parallel}", progress=False)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of two processes, and what one process made before and after them."""
    folder = tmp_path_factory.mktemp("runs")
    stop_at(3, recipe(), folder / "more")
    launch(folder, TWO)
    return folder


@pytest.mark.parametrize(("name", "tolerance"), [("single", 1e-5), ("double", 1e-10)])
def test_parts_are_the_same_run_as_wholes(runs, name, tolerance):
    """Weights, averages, head, and the optimizer's moments; with accumulation and clipping; what is logged, and snapshots."""
    parts, wholes = tensors(runs / f"fsdp-{name}"), tensors(runs / f"ddp-{name}")
    assert apart(parts, wholes) < tolerance
    assert len(list((runs / f"fsdp-{name}" / "samples").glob("*.png"))) == 2
    assert losses(runs / f"fsdp-{name}") == pytest.approx(losses(runs / f"ddp-{name}"), abs=tolerance)
    assert len(losses(runs / f"fsdp-{name}")) == 6
    # an uneven number of batches of questions for two processes
    assert validated(runs / f"fsdp-{name}") == pytest.approx(validated(runs / f"ddp-{name}"), abs=tolerance)
    assert len(validated(runs / f"fsdp-{name}")) == 2
    stored = [sorted((runs / f"{kind}-{name}" / "snapshots").rglob("*.safetensors")) for kind in ("ddp", "fsdp")]
    assert len(stored[0]) == len(stored[1]) == 2
    assert apart(load_file(stored[0][1]), load_file(stored[1][1])) < 1e-5


def test_a_checkpoint_in_parts_is_safetensors_and_json_and_loads_on_one_process(runs):
    (folder,) = (runs / "fsdp-single" / "checkpoints").iterdir()
    names = sorted(p.name for p in folder.iterdir())
    assert [n for n in names if not is_shard(n)] == [
        "ema.safetensors",
        "manifest.json",
        "model.safetensors",
        "state.json",
    ]
    assert sum(map(is_shard, names)) == 2
    assert set(json.loads((folder / "manifest.json").read_text())["files"]) == set(names) - {"manifest.json"}
    for name in (n for n in names if n.endswith(".safetensors")):
        load_file(folder / name)  # no pickle would be read so
    assert {"ema-0.1", "head", "head_optimizer", "optimizer"} <= set(groups(folder))
    sizes = [sum(v.numel() for v in load_file(folder / n).values()) for n in names if is_shard(n)]
    assert max(sizes) < 0.55 * sum(sizes)  # each process wrote its half
    model = load(runs / "fsdp-single")
    assert apart(dict(model.denoiser.backbone.state_dict()), load_file(folder / "ema.safetensors")) == 0.0


def test_a_resumed_run_in_parts_is_the_same_run(runs):
    assert apart(tensors(runs / "stopped"), tensors(runs / "fsdp-single")) == 0.0


def test_a_run_goes_on_in_another_number_of_parts(runs):
    """2 processes to 1, 1 to 2, and whole to parts to whole, with blocks recomputed on the way."""
    train(recipe(parallel="fsdp"), runs / "fewer", resume=True, progress=False)
    for name in ("fewer", "more", "changing"):
        assert apart(tensors(runs / name), tensors(runs / "ddp-single")) < 1e-5


def test_a_rehearsal_says_who_holds_what(runs):
    tried = Rehearsal(**json.loads((runs / "rehearsal.json").read_text()))
    own = recipe()
    everything = sum(p.numel() for m in (own.backbone, own.objective.head()) for p in m.parameters())
    assert sum(count for count, _, _ in tried.held) == everything
    for count, weights, beside in tried.held:
        assert count == pytest.approx(everything / 2, rel=0.05)
        assert weights == 4 * count
        # two moments, and two averages of the backbone; buffers and step counts beside them
        assert beside == pytest.approx(16 * count, rel=0.2)
    assert not (runs / "nowhere").exists()
    assert any("process 1 holds" in line for line in tried.words(6))


def test_half_precision_learns_either_way(runs):
    for parallel in ("ddp", "fsdp"):
        found = losses(runs / f"bf16-{parallel}")
        assert sum(found[-5:]) < 0.8 * sum(found[:5])
        assert len(validated(runs / f"bf16-{parallel}")) == 8
        assert len(list((runs / f"bf16-{parallel}" / "samples").glob("*.png"))) == 1
    # blocks compute alike, but parameters that autocast would leave alone are rounded when they are gathered
    assert validated(runs / "bf16-fsdp") == pytest.approx(validated(runs / "bf16-ddp"), rel=0.02)


def test_a_part_that_is_missing_makes_a_checkpoint_invalid(runs, tmp_path):
    shutil.copytree(runs / "fsdp-single", tmp_path / "run")
    next(p for p in (tmp_path / "run" / "checkpoints").rglob("*") if is_shard(p.name)).unlink()
    with pytest.warns(UserWarning, match="shard-0000.* is missing"):
        assert newest(tmp_path / "run" / "checkpoints") is None


def test_what_does_not_go_together_with_parts_is_refused():
    for changes, match in (
        ({"precision": "fp16"}, "set precision: bf16"), ({"async_save": True}, "set async_save: false"),
        ({"micro_batch": "auto"}, "give a number"), ({"compile": "whole"}, "set compile: blocks"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            recipe(parallel="fsdp", **changes)
    with pytest.raises(ValueError, match="allowed: ddp, fsdp"):
        recipe(parallel="zero")


def test_parts_in_one_process_are_wholes(tmp_path):
    train(recipe(steps=2), tmp_path / "a", progress=False)
    train(recipe(steps=2, parallel="fsdp"), tmp_path / "b", progress=False)
    assert apart(tensors(tmp_path / "a"), tensors(tmp_path / "b")) == 0.0

"""Weights, gradients, optimizer and average split over processes: the same run as when each holds everything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from sfumato.diffusion import Digits, DiT, LearnedUncertainty, LogSNRClock, Recipe
from sfumato.diffusion.checkpoint import newest
from sfumato.schedules import EDM, LogNormal, RectifiedFlow


def recipe(**changes):
    torch.manual_seed(0)
    net = DiT(channels=1, size=8, num_classes=10, width=16, depth=2, heads=2)
    values = {
        "data": Digits(), "backbone": net, "schedule": RectifiedFlow(), "row": EDM(0.75), "clock": LogSNRClock(),
        "density": LogNormal(-0.8, 1.2), "objective": LearnedUncertainty(32), "steps": 6, "batch": 12, "micro_batch": 4, "lr": 2e-3,
        "warmup": 2, "ema": 0.9, "threads": 1, "log_every": 1, "sampling_steps": 3, "tracker": None, "clip": 0.5,
    }  # fmt: skip
    return Recipe(**{**values, **changes})


def launch(folder, code):
    """Run code in two processes."""
    script = folder / "script.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_sharding import *\n{code}"
    )
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=env, timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def state(folder):
    found = newest(folder / "checkpoints")
    return {
        f"{n}/{k}": v
        for n in ("model", "ema", "head", "optimizer", "head_optimizer")
        for k, v in found.tensors(n).items()
    }


def apart(a, b):
    assert a.keys() == b.keys()
    return max(float((a[k].double() - b[k].double()).abs().max()) for k in a)


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]

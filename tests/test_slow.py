"""Slow checks, `make test-slow`: the quickstart keeps its promise, and killed runs are not lost."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml

from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.images import read_settings
from sfumato.tools.cli import main

pytestmark = pytest.mark.slow


def test_quickstart_keeps_its_promise(tmp_path, capsys):
    """Frechet distance near that of two real halves, and guided classes right. The bounds leave room for other seeds."""
    folder = tmp_path / "quick"
    assert main(["quickstart", "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert str(folder / "samples.png") in said
    assert said.count("  sfumato ") == 3
    results = json.loads((folder / "metrics.json").read_text())
    assert results["unguided"]["frechet"] < 1.5 * results["references"]["real_vs_real"]
    assert results["unguided"]["accuracy"] > 0.94
    assert results["guided"]["accuracy"] > 0.98
    assert results["training"]["cpu_seconds"] + results["sampling"]["cpu_seconds"] < 60
    assert yaml.safe_load((folder / "config.yaml").read_text())["steps"] == 800
    assert len(read_settings(folder / "samples.png")["pictures"]) == 100
    assert (folder / "loss.png").is_file()
    assert main(["quickstart", "--out", str(folder), "--help"]) == 0


def _train(folder, *more):
    argv = [
        "train",
        "digits",
        "--steps",
        "60",
        "--batch",
        "8",
        "--backbone.width",
        "8",
        "--save_every",
        "1",
        "--sample_every",
        "0",
    ]
    return [sys.executable, "-m", "sfumato.tools.cli", *argv, "--out", str(folder), *more]


def test_twenty_random_kills_lose_nothing(tmp_path):
    """SIGKILL at random moments of a run that saves at every step: each resume goes on, and the end is that of a quiet run."""
    subprocess.run(_train(tmp_path / "quiet"), check=True, capture_output=True)
    folder, rng, kills, last = tmp_path / "killed", random.Random(0), 0, 0
    while kills < 20:
        process = subprocess.Popen(_train(folder, "--resume"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        # wait until it trains, then kill it a random moment later, so that most kills land in a step or in a save
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < 30:
            found = sorted((folder / "checkpoints").glob("step-*")) if folder.exists() else []
            if found and int(found[-1].name[5:]) > last:
                break
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        checkpoint = newest(folder / "checkpoints")
        assert checkpoint is not None
        assert checkpoint.step >= last
        last = checkpoint.step
    assert kills >= 10
    subprocess.run(_train(folder, "--resume"), check=True, capture_output=True)
    quiet, killed = newest(tmp_path / "quiet" / "checkpoints"), newest(folder / "checkpoints")
    assert quiet is not None
    assert killed is not None
    assert quiet.step == killed.step == 60
    for name in ("model", "ema", "optimizer"):
        a, b = quiet.tensors(name), killed.tensors(name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)

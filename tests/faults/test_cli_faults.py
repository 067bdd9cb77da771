"""Faults 65 to 68: what a user types, and Ctrl-C."""

import os
import signal
import threading
import time

import pytest

from sfumato.diffusion.checkpoint import newest
from sfumato.tools.cli import main


def said(capsys, *argv, code=2):
    """What a command says that ends with this code: without a traceback."""
    assert main([*map(str, argv)]) == code, argv
    err = capsys.readouterr().err
    assert "Traceback" not in err
    return err.rstrip()


@pytest.mark.fault(65)
def test_an_unknown_key_gets_the_nearest(capsys, tmp_path, injected):
    cases = [
        (["train", "digits", "--learing_rate", "3"], "lr"), (["train", "digits", "--learning-rate", "3"], "lr"),
        (["train", "digits", "--stpes", "3"], "steps"), (["train", "digits", "--backbone.widht", "8"], "width"),
        (["train", "digits", "--emaa", "0.9"], "ema"), (["sample", "x", "--seed", "3"], "seeds"),
        (["sample", "x", "--resum", "true"], "resume"), (["sample", "x", "--cfg", "3"], "guidance"), (["smaple", "x"], "sample"),
    ]  # fmt: skip
    (tmp_path / "mine.yaml").write_text("learing_rate: 3\n")
    for argv, meant in cases:
        assert said(capsys, *argv).endswith(f"did you mean {meant}?")
    assert "did you mean lr?" in said(capsys, "train", tmp_path / "mine.yaml")
    injected("a key that is none", len(cases) + 1, 0)


@pytest.mark.fault(66)
def test_wrong_types_and_ranges_in_one_message(capsys, injected):
    wrong = {
        "lr": "-1", "batch": "0", "ema": "1.5", "steps": "2.7", "sampler.order": "9", "precision": "fp8", "seed": "x", "label_dropout": "2",
    }  # fmt: skip
    err = said(capsys, "train", "digits", *(word for key, value in wrong.items() for word in (f"--{key}", value)))
    lines = err.splitlines()
    for key, value in wrong.items():
        assert sum(key.split(".")[-1] in line and value in line and "allowed" in line for line in lines) == 1, (
            key,
            err,
        )
    assert len(lines) == 1 + len(wrong)
    injected("a value of another type or range, all at once", len(wrong), 0)


@pytest.mark.fault(67)
def test_a_file_that_is_not_there_is_one_line(capsys, a_run, tmp_path, injected):
    sample = ["sample", a_run, "--seeds", "0", "--out", tmp_path / "out"]
    cases = [
        ["train", "nowhere.yaml"], ["train", tmp_path], ["sample", "/nowhere"], ["sample", tmp_path], ["evaluate", "/nowhere"],
        ["calibrate", "/nowhere"], ["guidance", "/nowhere"], ["inspect", "nowhere"],
        ["train", "digits", "--data", "ImageFolder", "--data.root", "/nowhere"],
        [*sample, "--filters", "Calibrated", "--filters.calibration", "/nowhere.json"],
        [*sample, "--guidance", "LinearAdaptive", "--guidance.plan", "/nowhere.json"],
        [*sample, "--weak", "/nowhere", "--guidance", "Autoguidance", "--guidance.scale", "2"],
        [*sample, "--weak", a_run, "--weak_step", "5", "--guidance", "Autoguidance", "--guidance.scale", "2"],
        [*sample[:-1], a_run / "config.yaml"], [*sample[:-1], a_run / "config.yaml" / "x"],
    ]  # fmt: skip
    for argv in cases:
        err = said(capsys, *argv)
        assert len(err.splitlines()) == 1, err
        assert err.startswith(f"sfumato {argv[0]}: ")
    assert not (tmp_path / "out").exists()
    injected("a file that is not there", len(cases), 0)


@pytest.mark.fault(68)
def test_ctrl_c_in_training_saves_and_exits_130(capsys, tmp_path, injected):
    out = tmp_path / "run"
    argv = [
        "train",
        "digits",
        "--steps",
        "100000",
        "--batch",
        "8",
        "--backbone.width",
        "8",
        "--sample_every",
        "0",
        "--log_every",
        "1",
    ]

    def press():
        while not (out / "metrics.jsonl").is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    keyboard = threading.Thread(target=press, daemon=True)
    keyboard.start()
    err = said(capsys, *argv, "--out", out, code=130)
    assert "--resume" in err
    found = newest(out / "checkpoints")
    assert found is not None
    assert found.step >= 1
    injected("Ctrl-C while training", 1, 0)


@pytest.mark.fault(68)
@pytest.mark.parametrize("command", ["sample", "calibrate", "evaluate"])
def test_ctrl_c_elsewhere_exits_130(command, capsys, a_run, tmp_path, monkeypatch, injected):
    """While the model is read, so before anything is made: one line, and no folder is left."""

    def interrupted(*_, **__):
        signal.raise_signal(signal.SIGINT)

    module = "evaluate_nll" if command == "evaluate" else command
    monkeypatch.setattr(f"sfumato.tools.{module}.load", interrupted)
    more = ["--nll"] if command == "evaluate" else ["--out", tmp_path / "x"]
    err = said(capsys, command, a_run, *more, code=130)
    assert len(err.splitlines()) == 1
    assert "interrupted" in err or "stopped by SIGINT" in err
    assert not (tmp_path / "x").exists()
    injected(f"Ctrl-C in {command}", 1, 0)

"""`sfumato calibrate`, and filters in `sfumato sample`, as their user meets them."""

import csv
import json
import re
import shlex

import pytest
import torch
from PIL import Image

from sfumato.diffusion import Digits, Split, calibrate, load
from sfumato.diffusion.images import read_settings
from sfumato.diffusion.split import held_out
from sfumato.samplers.filters import Calibrated, Calibration, ExcessError, PathLength, RenoiseProbe
from sfumato.tools.cli import main

PROBE = ["--filter", "RenoiseProbe", "--filter.level", "3"]
SMALL = shlex.split("--steps 12 --batch 8 --backbone.width 8 --sampling_steps 6 --sample_every 0 --save_every 6")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """A run that held a tenth of the digits out."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "digits", "--data", "Split", "--data.source", "Digits", *SMALL, "--out", str(folder)]) == 0
    return folder


def printed(capsys, *argv):
    capsys.readouterr()
    assert main(list(map(str, argv))) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def fails(capsys, *argv):
    capsys.readouterr()
    assert main(list(map(str, argv))) == 2
    return capsys.readouterr().err


def test_what_is_printed_is_saved_and_the_printed_command_uses_it(a_run, capsys, tmp_path):
    out = printed(
        capsys,
        "calibrate",
        a_run,
        "--alpha",
        "0.1",
        "--filter",
        "RenoiseProbe",
        "--filter.level",
        "3",
        "--filter.k",
        "2",
        "--check",
        "30",
    )
    file = a_run / "filters" / "RenoiseProbe.json"
    known, report = Calibration.load(file), json.loads(file.read_text())
    model, data = load(a_run), held_out(Split(Digits()))
    found = calibrate(model, RenoiseProbe(3.0, k=2), data, held_out=True, alpha=0.1)
    assert known == found.calibration
    assert (known.count, known.held_out, known.condition, known.sampler) == (180, True, "labels", None)
    assert f"score <= {known.bounds[1]:.6g}" in out
    assert "probability <= 0.1; nothing is promised about samples" in out
    assert "costs 2 evaluations per attempt" in out
    assert report["evaluations"] == {"level": 0.0, "score": 2.0}
    shown = model.sample(range(30), [i % 10 for i in range(30)], filters=[Calibrated(str(file))], mark=True)
    assert report["checked"]["rejected"] == shown.filtered.rejected == int((~shown.kept).sum())
    for name in ("RenoiseProbe.png", "RenoiseProbe-samples.png"):
        with Image.open(a_run / "filters" / name) as figure:
            assert figure.width > 300
    (command,) = re.findall(r"use it: sfumato (sample .*)", out)
    again = printed(capsys, *shlex.split(command), "--seeds", "0-11", "--mark", "--out", tmp_path / "a")
    assert "12 pictures in" in again
    with (tmp_path / "a" / "scores.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["seed"]) for row in rows] == list(range(12))
    assert [float(row["RenoiseProbe"]) for row in rows] == pytest.approx(shown.scores[0][:12].tolist(), rel=1e-3)
    assert [row["kept"] == "1" for row in rows] == shown.kept[:12].tolist()
    settings = read_settings(tmp_path / "a" / "seed-00000003.png")
    assert settings["scores"]["RenoiseProbe"] == pytest.approx(float(rows[3]["RenoiseProbe"]), rel=1e-6)
    assert settings["kept"] == (rows[3]["kept"] == "1")
    assert settings["reason"] == rows[3]["reason"]
    assert (tmp_path / "a" / "filtered.png").exists()


def test_refused_where_it_does_not_hold(a_run, capsys, tmp_path):
    words = ["--filter", "PathLength", "--filter.low", "-3", "--alpha", "0.1", "--check", "0"]
    out = printed(capsys, "calibrate", a_run, *words, "--out", tmp_path)
    assert "costs no evaluations" in out
    use = [
        "--filters",
        "Calibrated",
        "--filters.calibration",
        tmp_path / "PathLength.json",
        "--labels",
        "0-9",
        "--retries",
        "0",
    ]
    assert "attempts rejected by PathLength" in printed(capsys, "sample", a_run, *use, "--out", tmp_path / "a")
    own = load(a_run)
    known = Calibration.load(tmp_path / "PathLength.json")
    assert known.sampler == repr(own.sampler)
    assert isinstance(known.filter, PathLength)
    for extra, said in (
        (["--sampler", "DDIM"], "is of the sampler DPMSolverPP"), (["--steps", "7"], "is of 6 steps that end with"),
        (["--guidance", "Plain"], "is of the guidance CFG"), (["--ema", "false"], "is of other weights"),
        (["--labels", "null"], "these are sampled without labels"),
    ):  # fmt: skip
        assert said in fails(capsys, "sample", a_run, *use, *extra, "--out", tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_training_pictures_are_told_from_held_out_ones(a_run, capsys, tmp_path):
    out = printed(capsys, "calibrate", a_run, *PROBE, "--filter.k", "1", "--check", "0", "--data", "Split",
                  "--data.source", "Digits", "--out", tmp_path)  # fmt: skip
    assert "the model knows these pictures" in out
    assert not Calibration.load(tmp_path / "RenoiseProbe.json").held_out
    out = printed(capsys, "calibrate", a_run, *PROBE, "--filter.k", "1", "--check", "0", "--data", "Digits",
                  "--data.part", "odd", "--sides", "both", "--condition", "none", "--out", tmp_path / "odd")  # fmt: skip
    whole = printed(capsys, "calibrate", a_run, *PROBE, "--filter.k", "1", "--check", "0", "--count", "100", "--data", "Digits",
                    "--out", tmp_path / "whole")  # fmt: skip
    assert "real pictures that it was trained on, at least some" in whole
    assert "the model knows these pictures" in whole
    assert not Calibration.load(tmp_path / "whole" / "RenoiseProbe.json").held_out
    known = Calibration.load(tmp_path / "odd" / "RenoiseProbe.json")
    assert (known.count, known.held_out, known.condition, known.sides) == (898, True, "none", "both")
    assert known.bounds[0] > 0.0
    assert f"{known.bounds[0]:.6g} <= score" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alpha", "0"], "alpha is 0.0; allowed: above 0 and below 1"),
        (
            ["--alpha", "0.001", *PROBE],
            "180 real samples are too few for alpha 0.001; allowed: at least 999",
        ),
        (["--filter", "Calibrated"], "filter"),
        (["--filter", "TrajectoryVariance", "--sides", "both"], "has no field least; allowed: 'upper'"),
        (["--filter", "RenoiseProbe", "--filter.k", "0"], "RenoiseProbe.k is 0"),
        (["--data", "ImageFolder"], "data"),
        (["--cut", "1"], "cut is 1.0; allowed: above 1"),
        (["--count", "0"], "count is 0; allowed: >= 1"),
        (["--filter", "TrajectoryVariance", "--filter.low", "50"], "widen the window or take more steps"),
    ],
)
def test_mistakes(a_run, capsys, words, said, tmp_path):
    assert said in fails(capsys, "calibrate", a_run, *words, "--out", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_filter_named_without_its_level_is_refused_before_anything_runs(a_run, capsys, tmp_path):
    said = fails(capsys, "sample", a_run, "--filters", "RenoiseProbe", "--out", tmp_path / "a")
    assert "`sfumato calibrate RUN` finds it" in said
    assert not (tmp_path / "a").exists()


def test_rejected_slots_are_reported(a_run, capsys, tmp_path):
    words = ["--seeds", "0-3", "--labels", "0-9", "--retries", "2", "--filters", "PathLength", "--filters.low", "-3"]
    assert main(["sample", str(a_run), *words, "--filters.threshold", "0", "--out", str(tmp_path / "a")]) == 1
    out, errors = capsys.readouterr()
    assert "4 of 4 slots have no picture: all 3 attempts at each were rejected" in errors
    assert "12 of 12 attempts rejected by PathLength (100.0%" in out
    assert "4 of 4 slots ran out of retries" in out
    rows = list(csv.DictReader((tmp_path / "a" / "scores.csv").open()))
    assert [(int(r["slot"]), int(r["attempt"])) for r in rows] == [(s, a) for s in range(4) for a in range(3)]
    assert all(r["reason"].startswith("PathLength: score ") and r["kept"] == "0" for r in rows)
    with pytest.warns(UserWarning, match="1 of 1 slots have no picture"):
        images = load(a_run).sample([0], [0], filters=[PathLength(0.0, -3.0)], retries=0).images
    assert bool(torch.isnan(images).all())


def test_pictures_without_separate_modes_get_the_filter_that_needs_no_level(a_run, capsys, tmp_path):
    out = printed(capsys, "calibrate", a_run, "--alpha", "0.2", "--check", "0", "--count", "40", "--out", tmp_path)
    assert "so ExcessError is calibrated" in out
    assert "costs 32 evaluations per attempt; for every sampler of this model" in out
    assert isinstance(Calibration.load(tmp_path / "ExcessError.json").filter, ExcessError)
    said = fails(
        capsys, "calibrate", a_run, "--alpha", "0.2", "--count", "40", "--filter", "RenoiseProbe", "--out", tmp_path
    )
    assert "no level was found" in said
    assert "take ExcessError, which needs none" in said

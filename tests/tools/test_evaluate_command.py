"""`sfumato evaluate`: a run, a folder, statistics; what is kept and made again; equal numbers on one process and two."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from children import ends
from PIL import Image

from sfumato.diffusion.measuring.measures import MEASURES
from sfumato.diffusion.measuring.picture_files import settings_of_file
from sfumato.tools import evaluate_work
from sfumato.tools.cli import main
from sfumato.tools.evaluate_pictures import labels_like

PIXELS = ["--extractor", "Pixels", "--steps", "2", "--threads", "1"]


@pytest.fixture(scope="module", name="run")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("evaluated") / "run"
    words = [
        "--steps",
        "2",
        "--batch",
        "8",
        "--backbone.width",
        "8",
        "--sample_every",
        "0",
        "--data",
        "Split",
        "--data.source",
        "Digits",
    ]
    assert main(["train", "digits", *words, "--out", str(run)]) == 0
    return run


def printed(capsys, *words):
    assert main(["evaluate", *map(str, words)]) == 0
    return capsys.readouterr().out


def fails(capsys, *words):
    assert main(["evaluate", *map(str, words)]) == 2
    return capsys.readouterr().err


def numbers(report):
    return [each["numbers"] for judged in json.loads(report.read_text())["judged"] for each in judged["sets"]]


def test_a_run_its_folder_and_its_statistics(run, tmp_path, capsys):
    out = printed(capsys, run, *PIXELS, "--count", 30, "--seeds", 2, "--out", tmp_path / "a")
    assert "30 pictures in each of 2 sets against 1617 of the pictures that the model was trained on" in out
    assert "FD-pixels@30" in out
    assert "over 2 sets" in out
    found = json.loads((tmp_path / "a" / "report.json").read_text())
    first, second = found["judged"][0]["sets"]
    assert (first["pictures"]["made"]["seeds"], second["pictures"]["made"]["seeds"]) == ("0-29", "30-59")
    for each in (first, second):
        assert {n["name"] for n in each["numbers"]} | set(each["missing"]) == set(MEASURES)
        made = each["pictures"]["made"]
        assert {
            "run",
            "checkpoint",
            "ema",
            "sampler",
            "grid",
            "steps",
            "guidance",
            "seeds",
            "evaluations_per_picture",
        } <= set(made)
        assert (made["run"], made["checkpoint"], made["steps"]) == ("run", 2, 2)
        assert each["extractor"]["hash"]
        assert each["versions"]["sfumato"]
        assert each["details"]["memorisation"]["held_out"] is not None  # the run's own
    values = [next(n["value"] for n in each["numbers"] if n["name"] == "frechet") for each in (first, second)]
    assert found["judged"][0]["spread"]["frechet"]["mean"] == pytest.approx(sum(values) / 2)
    assert found["judged"][0]["spread"]["frechet"]["std"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert found["command"].startswith("sfumato evaluate ")

    folder = found["generated"][0]["folder"]
    printed(capsys, folder, "--extractor", "Pixels", "--reference", "Split", "--reference.source", "Digits", "--threads", "1",
            "--out", tmp_path / "b", "--save_stats", tmp_path / "s.npz", "--measures", "frechet,kid,precision")  # fmt: skip
    alone = numbers(tmp_path / "b" / "report.json")[0]
    assert alone == [n for n in first["numbers"] if n["name"] in ("frechet", "kid", "precision")]
    with np.load(tmp_path / "s.npz") as file:  # as pytorch-fid has it
        assert (file["mu"].shape, file["sigma"].shape) == ((64,), (64, 64))
    out = printed(capsys, folder, "--extractor", "Pixels", "--reference", tmp_path / "s.npz", "--out", tmp_path / "c")
    assert "not measured: kid: of the reference only the mean and covariance are known" in out
    same = numbers(tmp_path / "c" / "report.json")[0]
    assert same[0]["value"] == pytest.approx(0, abs=1e-9)


def test_the_page_says_what_was_measured(run, tmp_path, capsys):
    printed(
        capsys,
        run,
        *PIXELS,
        "--count",
        12,
        "--out",
        tmp_path,
        "--classifier",
        "Pixels",
        "--classifier.shape",
        "[1,8,8]",
    )
    page = (tmp_path / "report.html").read_text()
    for words in ("FD-pixels@12", "How to read this", "real against real", "How the pictures were made", "sfumato evaluate", "Karras(",
                  "seeds", "network evaluations per picture", "Copies of training pictures?", "not measured", "hash"):  # fmt: skip
        assert words in page
    assert page.count("data:image/png;base64,") == 3
    # a second report does not take the place of the first
    printed(capsys, run, *PIXELS, "--count", 12, "--out", tmp_path, "--measures", "frechet")
    assert (tmp_path / "report-2.json").is_file()


def test_pictures_are_kept_and_what_is_missing_is_made(run, tmp_path, capsys, monkeypatch):
    words = [
        run,
        *PIXELS,
        "--count",
        10,
        "--pictures",
        tmp_path / "p",
        "--measures",
        "frechet,sliced",
        "--out",
        tmp_path / "o",
    ]
    printed(capsys, *words)
    files = sorted((tmp_path / "p").glob("seed-*.png"))
    held = [file.read_bytes() for file in files]
    assert len(files) == 10
    files[4].unlink()
    printed(capsys, *words)
    assert [file.read_bytes() for file in files] == held
    first, second = (json.loads((tmp_path / "o" / f"report{n}.json").read_text()) for n in ("", "-2"))
    assert (second["generated"][0]["found"], second["generated"][0]["made"]) == (9, 1)
    assert first["judged"] == second["judged"]
    # without --pictures the same settings find the same folder, and others another
    before = set((run / "evaluation").glob("pictures-*"))
    for steps in (2, 2, 3):
        printed(capsys, run, "--extractor", "Pixels", "--steps", steps, "--count", 4, "--measures", "frechet")
    assert len(set((run / "evaluation").glob("pictures-*")) - before) == 2


def test_pictures_of_another_network_are_never_taken_for_those_of_this_one(run, tmp_path, capsys, monkeypatch):
    words = [run, *PIXELS, "--count", 4, "--measures", "frechet", "--out", tmp_path / "o"]
    kept = [*words, "--pictures", tmp_path / "p"]
    printed(capsys, *words)
    printed(capsys, *kept)
    before = set((run / "evaluation").glob("pictures-*"))
    load = evaluate_work.opened

    def trained_again(options):
        model = load(options)
        next(model.denoiser.parameters()).data.mul_(1.5)
        return model

    monkeypatch.setattr(evaluate_work, "opened", trained_again)
    printed(capsys, *words)
    assert len(set((run / "evaluation").glob("pictures-*")) - before) == 1
    assert "was made by another command: network was" in fails(capsys, *kept)


def test_pictures_that_filters_rejected_altogether_are_told(run, tmp_path, capsys):
    words = [
        run,
        *PIXELS,
        "--count",
        12,
        "--measures",
        "frechet",
        "--out",
        tmp_path,
        "--filters",
        "TrajectoryVariance",
        "--retries",
        0,
    ]
    words[words.index("--steps") + 1] = 12
    printed(capsys, *words, "--filters.threshold", 1e9, "--pictures", tmp_path / "p")
    scores = sorted(settings_of_file(f)["scores"]["TrajectoryVariance"] for f in (tmp_path / "p").glob("*.png"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = printed(capsys, *words, "--filters.threshold", (scores[6] + scores[7]) / 2)
        assert "filters left 0 of 12 pictures" in fails(capsys, *words, "--filters.threshold", scores[0] / 2)
    lost = "5 of 12 seeds" if "5 of 12 seeds" in out else "7 of 12 seeds"
    found = json.loads((tmp_path / "report-2.json").read_text())
    done = found["generated"][0]
    assert f"{done['lost']} of 12 seeds" == lost
    page = (tmp_path / "report-2.html").read_text()
    told = sum(done["evaluations"].values()) / (12 - done["lost"])
    for words in (f"{lost} (", f"the {12 - done['lost']} others", f"came to {told:.4g} evaluations per picture"):
        assert words in out
        assert words in page
    # each picture that is there says what it cost, and each lost one cost as much
    own = found["judged"][0]["sets"][0]["pictures"]["made"]["evaluations_per_picture"]["total"]
    assert told == pytest.approx(own * 12 / (12 - done["lost"]))


def test_labels_are_in_the_proportions_of_real_ones_and_mixed():
    found = labels_like(torch.tensor([0] * 30 + [1] * 10 + [-1] * 7), 2, 20)
    assert (found.count(0), found.count(1)) == (15, 5)
    assert found != sorted(found)  # or those that a filter, or --count, cuts off would be of one class
    assert labels_like(None, 3, 5) == [0, 1, 2, 0, 1]


def test_classes_are_as_often_as_in_the_reference(run, tmp_path, capsys):
    printed(capsys, run, *PIXELS, "--count", 40, "--measures", "frechet", "--out", tmp_path / "a")
    made = json.loads((tmp_path / "a" / "report.json").read_text())["judged"][0]["sets"][0]["pictures"]["made"]
    assert sum(made["labels"].values()) == 40
    assert all(3 <= n <= 5 for n in made["labels"].values())
    printed(capsys, run, *PIXELS, "--count", 4, "--labels", "7", "--measures", "frechet", "--out", tmp_path / "b")
    made = json.loads((tmp_path / "b" / "report.json").read_text())["judged"][0]["sets"][0]["pictures"]["made"]
    assert made["labels"] == {"7": 4}


def test_strangers_pictures_say_nothing_of_themselves(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
        for i in range(8):
            Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(
                tmp_path / name / f"{i}.png"
            )
    out = printed(capsys, "fake", "--reference", "real")
    assert "nothing is known of how these pictures were made" in out
    found = json.loads((tmp_path / "evaluation" / "fake" / "report.json").read_text())["judged"][0]["sets"][0]
    assert found["pictures"]["made"] == {"known": False}
    assert found["numbers"][0]["value"] == pytest.approx(0, abs=1e-9)
    # no reference is needed, and no feature is kept; the same to rounding as with one
    assert "8 pictures, 90 features of Pixels" in printed(capsys, "real", "--save_stats", "ref.npz")
    printed(capsys, "real", "--save_stats", "kept.npz", "--measures", "frechet", "--reference", "fake")
    with np.load("ref.npz") as streamed, np.load("kept.npz") as kept:
        for name in ("mu", "sigma"):
            np.testing.assert_allclose(streamed[name], kept[name], rtol=0, atol=1e-12)
    assert "holds no picture" in fails(capsys, "fake", "--reference", tmp_path / "evaluation")
    Image.new("L", (5, 6)).save(tmp_path / "evaluation" / "grey.png")
    assert "pictures are RGB, and those of reference are grey; give channels" in fails(
        capsys, "fake", "--reference", "evaluation"
    )
    assert "5 x 6" not in printed(
        capsys, "fake", "--reference", "real", "--size", "4", "--channels", "1", "--measures", "frechet"
    )


def test_what_is_refused(run, tmp_path, capsys):
    assert "did you mean frechet?" in fails(capsys, run, "--measures", "frechett")
    assert "holds no picture" in fails(capsys, tmp_path)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert "give --reference" in fails(capsys, tmp_path)
    assert "is not there" in fails(capsys, tmp_path / "nowhere")
    assert "where there is nothing" in fails(capsys, run, "--reference", tmp_path / "nowhere")
    assert "count is 1; allowed: >= 2" in fails(capsys, run, "--count", 1)
    assert "seeds is 3, but" in fails(capsys, tmp_path, "--seeds", 3, "--reference", "Digits")
    assert "one reference" in fails(capsys, run, "--reference", "Digits", "--stats", "x.npz")
    assert "reference" in fails(capsys, run, "--reference", "Didgits")


def same_on_two(tmp_path):
    """Whether the reports of one process and of two have the same numbers, and who speaks is one."""
    one, two = ((tmp_path / f"o{count}" / "report.json") for count in (1, 2))
    assert numbers(one) == numbers(two)
    sets = [json.loads(file.read_text())["judged"][0]["sets"][0] for file in (one, two)]
    assert sets[0]["details"] == sets[1]["details"]
    assert [each["settings"]["processes"] for each in sets] == [1, 2]


def test_two_processes_say_what_one_says(run, tmp_path, capsys):
    words = [run, *PIXELS, "--count", 70, "--batch", 32, "--strict"]
    printed(capsys, *words, "--pictures", tmp_path / "p1", "--out", tmp_path / "o1")
    more = ["--pictures", tmp_path / "p2", "--out", tmp_path / "o2"]
    codes, logs, _ = ends(lambda rank: main(["evaluate", *map(str, [*words, *more])]), tmp_path / "log", 120)
    assert codes == [0, 0], logs
    assert ["judged by" in log for log in logs] == [True, False]
    same_on_two(tmp_path)


@pytest.mark.slow
def test_torchrun_says_what_one_process_says(run, tmp_path):
    words = ["evaluate", run, *PIXELS, "--count", 70, "--batch", 32, "--strict"]
    for count in (1, 2):
        start = ["-m", "torch.distributed.run", "--nproc_per_node", str(count)] if count > 1 else []
        command = [
            sys.executable,
            *start,
            "-m",
            "sfumato.tools.cli",
            *map(str, words),
            "--pictures",
            tmp_path / f"p{count}",
            "--out",
            tmp_path / f"o{count}",
        ]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=300)
    same_on_two(tmp_path)

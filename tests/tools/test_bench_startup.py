"""`sfumato bench startup` and `quickstart`: what is started, what is counted, and what is written; their times are for nobody here."""

import json
import os
from collections import OrderedDict

import pytest
import torch

from sfumato.diffusion import Interrupted
from sfumato.tools import cli
from sfumato.tools import quickstart as command_of
from sfumato.tools.bench import quickstart, quickstart_clone, startup
from sfumato.tools.bench.quickstart import QUICKSTART, rows_of
from sfumato.tools.bench.quickstart_clone import ROOT, copy_checkout, first_picture
from sfumato.tools.bench.sheet import Cell, Sheet, read
from sfumato.tools.bench.startup import _CUT, _SAMPLE, STARTING, command, first_step, subjects
from sfumato.tools.bench.startup_child import environment, modules, parted, spent
from sfumato.tools.cli import COMMANDS, main

RESULTS = {
    "training": {"seconds": 20.0}, "sampling": {"seconds": 1.5}, "parameters": 127745,
    "unguided": {"frechet": 4.2, "accuracy": 0.96, "seconds": 2.0, "n": 1000, "evaluations_per_picture": 20.0},
    "guided": {"frechet": 9.7, "accuracy": 0.997, "seconds": 4.0, "n": 1000, "evaluations_per_picture": 40.0},
    "references": {"real_vs_real": 4.0, "noise_vs_real": 526.0, "test_accuracy": 0.99},
}  # fmt: skip


def test_time_is_that_of_a_process_and_of_those_that_it_waited_for(monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert environment()["OMP_NUM_THREADS"] == "1"
    assert "PYTHONDONTWRITEBYTECODE" not in environment()
    work = "import time\nwhile time.process_time() < {}: pass"
    inner = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work.format(0.3)!r}])"
    assert spent(inner) >= 0.3
    with pytest.raises(RuntimeError, match="no such luck"):
        spent("raise SystemExit('no such luck')")
    with pytest.raises(RuntimeError, match="'nonsense' is no command"):  # it says so and returns 2
        spent(command("nonsense"))


def test_modules_are_those_of_the_process():
    bare = modules("pass")
    assert bare.ours == 0
    assert modules("import sfumato.tools.spelling").ours == 3  # two folders, and it
    assert modules("import colorsys").others == bare.others + 1
    counted = modules(command("--help"))
    assert 0 < counted.ours < 6
    assert counted.others < 150


def test_a_package_is_timed_beside_torch_in_one_process():
    before, after = parted("sfumato.tools.spelling")
    assert 0 < before < after


def test_every_command_that_is_started_is_one(tmp_path):
    started = subjects(tmp_path)
    # what ends early is held against what ends as early
    assert [what for what, code in started.items() if "_exit" in code] == [_CUT, _SAMPLE]
    for what, code in started.items():
        compile(code, what, "exec")
        if what.startswith("sfumato") and not what.startswith("sfumato --"):
            assert what.split()[1].rstrip(",") in COMMANDS


def test_sampling_ends_at_the_first_question(monkeypatch, tmp_path):
    """The hook is on any module, and the process is over when the first one is called; an exit code of 0 says that one was."""
    asked, sampled = [], []

    def leave(code):
        asked.append(code)
        raise KeyboardInterrupt

    def sample(words):
        sampled.append(words)
        torch.nn.Linear(1, 1)(torch.zeros(1, 1))

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(cli, "main", sample)
    monkeypatch.setattr(torch.nn.modules.module, "_global_forward_pre_hooks", OrderedDict())
    with pytest.raises(KeyboardInterrupt):
        exec(first_step(tmp_path / "run", tmp_path / "out"), {})
    assert asked == [0]
    assert sampled[0][:2] == ["sample", str(tmp_path / "run")]
    monkeypatch.setattr(cli, "main", sampled.append)
    with pytest.raises(SystemExit, match="no network was asked"):
        exec(first_step(tmp_path / "run", tmp_path / "out"), {})


def test_the_start_is_written(tmp_path, monkeypatch):
    codes = {"import torch": "pass", "sfumato --help": "import colorsys"}
    monkeypatch.setattr(startup, "PACKAGES", ("sfumato.tools.spelling",))
    monkeypatch.setattr(startup, "parted", lambda package: (2.0, 2.5))
    monkeypatch.setattr(startup, "subjects", lambda folder: codes)
    monkeypatch.setattr(startup, "spent", lambda code: 2.0)
    assert main(["bench", "startup", "--quick", "--out", str(tmp_path)]) == 0
    rows = read(tmp_path / "startup-quick.json")
    assert list(rows) == ["import sfumato.tools.spelling", *codes]
    assert rows["import sfumato.tools.spelling"]["times importing torch"] == Cell(1.25)
    assert rows["sfumato --help"]["CPU seconds"] == Cell(2.0, unit="s")
    assert rows["sfumato --help"]["our modules"] == Cell(0.0, unit="", exact=True)
    assert rows["sfumato --help"]["others"].value == rows["import torch"]["others"].value + 1
    goals = {goal.row: goal.column for goal in STARTING.goals}
    assert goals["sfumato --help"] in rows["sfumato --help"]
    assert goals["import sfumato.samplers"] in rows["import sfumato.tools.spelling"]


def test_the_quickstart_s_own_numbers_are_written(tmp_path, monkeypatch):
    ran = []

    def child(code):
        ran.append(code)
        out = code.split("'--out', '")[1].split("'")[0]
        os.makedirs(out)
        with open(f"{out}/metrics.json", "w") as file:
            json.dump(RESULTS, file)
        return 31.0

    monkeypatch.setattr(quickstart, "spent", child)
    assert main(["bench", "quickstart", "--out", str(tmp_path)]) == 0
    assert "--steps" not in ran[0]
    assert "--samples" not in ran[0]
    rows = read(tmp_path / "quickstart.json")
    assert rows == rows_of(RESULTS, 31.0)
    assert rows["digits"]["both"].value == 21.5
    for goal in QUICKSTART.goals[:-1]:
        assert goal.column in rows[goal.row]


@pytest.mark.parametrize(("words", "steps"), [([], 800), (["--steps", "2"], 2)])
def test_the_quickstart_can_be_short(tmp_path, monkeypatch, words, steps):
    trained = []

    def train(recipe, folder, progress):
        trained.append(recipe.steps)
        raise Interrupted("enough", 2)

    monkeypatch.setattr(command_of, "train", train)
    assert main(["quickstart", *words, "--out", str(tmp_path / "short")]) == 130
    assert trained == [steps]


def test_a_clone_holds_what_is_the_checkout_s(tmp_path):
    root = tmp_path / "root"
    for file in (
        "Makefile",
        "tools/cli.py",
        ".venv/bin/python",
        "runs/a/model",
        ".git/HEAD",
        "tools/__pycache__/cli.pyc",
    ):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text("x")
    copy_checkout(root, tmp_path / "clone")
    found = {str(p.relative_to(tmp_path / "clone")) for p in (tmp_path / "clone").rglob("*") if p.is_file()}
    assert found == {"Makefile", "tools/cli.py"}
    assert (ROOT / "tools" / "bench").is_dir()


def test_the_way_to_a_picture_is_watched(tmp_path, monkeypatch):
    """A Makefile that does the same in little: the marks are seen in their order, and a failure is one."""
    root = tmp_path / "root"
    root.mkdir()
    pause = "sleep 0.3"
    recipe = [
        "mkdir -p .venv runs/quickstart",
        "touch .venv/.installed",
        pause,
        "touch runs/quickstart/samples.png",
        pause,
    ]
    (root / "Makefile").write_text("quickstart:\n" + "".join(f"\t{line}\n" for line in recipe))
    monkeypatch.setattr(quickstart_clone, "ROOT", root)
    sheet = Sheet("quickstart", lambda line: None)
    (tmp_path / "a").mkdir()
    first_picture(tmp_path / "a", sheet)
    cells = sheet.rows["from a clone to the first picture"]
    assert cells["installed"].value < cells["the picture"].value < cells["all"].value
    assert QUICKSTART.goals[-1].column in cells
    (root / "Makefile").write_text("quickstart:\n\techo it was not to be && false\n")
    (tmp_path / "b").mkdir()
    with pytest.raises(RuntimeError, match="it was not to be"):
        first_picture(tmp_path / "b", sheet)
    (root / "Makefile").unlink()
    first_picture(tmp_path / "c", sheet)
    assert "it needs a checkout" in sheet.absent["first-picture"]

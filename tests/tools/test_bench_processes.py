"""`sfumato bench processes`: the same work per process, rounds in turn, and what is written; its times are for nobody here."""

import io
import json
import sys

import numpy as np
import pytest

from sfumato.diffusion import UNet
from sfumato.tools.bench import processes, processes_worker
from sfumato.tools.bench.processes import Group, measured
from sfumato.tools.bench.processes_worker import DATA, GO, Job, Rounds, work
from sfumato.tools.cli import main

# says how often it was told to go, in the place of seconds; the arguments are what it was started with
COUNTING = """
import os, sys
print("something else", flush=True)
for k, line in enumerate(sys.stdin):
    if "WORLD_SIZE" in os.environ:
        assert os.environ["RANK"] in "01" and os.environ["WORLD_SIZE"] == "2"
    print("took", k + float(sys.argv[-1]), flush=True)
"""


def tiny():
    return UNet(3, 32, 0, width=4, multipliers=(1, 1), blocks=1, attention=(), groups=1)


def told(rounds):
    said = []
    return Rounds(io.StringIO(f"{GO}\n" * rounds), said.append), said


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(processes_worker, "OURS", {"diffusers": {"UNet": tiny}})
    np.save(tmp_path / DATA, np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8))
    return tmp_path


def test_a_round_of_training_is_so_many_steps(place, monkeypatch):
    """By the trainer itself, which is stopped when there is no further round."""
    given = {}
    kept = processes_worker.train

    def watched(recipe, folder, **how):
        given.update(batch=recipe.batch)
        steps = []

        def watch(step, loss):
            steps.append(step)
            return how["watch"](step, loss)

        given["steps"] = steps
        return kept(recipe, folder, progress=False, watch=watch)

    monkeypatch.setattr(processes_worker, "train", watched)
    rounds, said = told(3)
    work(Job("training", "UNet", 2, 2), place, 1, rounds)
    assert given["batch"] == 2
    assert given["steps"] == list(range(1, 1 + 3 * 2 + 1))  # the first makes what is made once
    assert [line.split()[0] for line in said] == ["took"] * 3


def test_a_round_of_sampling_is_a_folder_of_pictures(place):
    rounds, said = told(2)
    work(Job("sampling", "UNet", 2, 3), place, 1, rounds)
    assert [len(list((place / f"round-{k}").glob("*.png"))) for k in range(2)] == [2, 2]
    assert len(said) == 2


def test_groups_take_turns(tmp_path, monkeypatch):
    """One, two that find each other, and two that are alone: each told once per round, the first round not counted."""
    script = tmp_path / "counting.py"
    script.write_text(COUNTING)
    monkeypatch.setattr(processes, "_WORKER", "counting")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = measured(Job("training", "UNet", 1, 1), (10, 20), 2)
    assert found == {"one": [11.0, 12.0], "two": [21.0, 22.0], "two apart": [21.0, 22.0]}  # the slower one's seconds


def test_who_has_ended_says_why(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text("raise SystemExit('no data here')")
    monkeypatch.setattr(processes, "_WORKER", "counting")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with processes._group([sys.executable, "-m", "counting"], 1, (0,), True, tmp_path / "one") as group:
        assert isinstance(group, Group)
        with pytest.raises(RuntimeError, match="has ended: no data here"):
            group.round()


def test_speed_ups_are_of_work_done(tmp_path, monkeypatch):
    """Two that each do as much in the same time are twice as fast."""
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda who: {0, 1})
    monkeypatch.setattr(
        processes, "measured", lambda job, cores, repeats: {"one": [1.0], "two": [1.25], "two apart": [1.0]}
    )
    assert main(["bench", "processes", "--quick", "--only", "training, DiT", "--out", str(tmp_path)]) == 0
    row = json.loads((tmp_path / "processes-quick.json").read_text())["rows"]["training, DiT"]
    assert {name: cell["value"] for name, cell in row.items()} == {
        "two": 1.6, "two that share nothing": 2.0, "two over those that share nothing": 0.8,
    }  # fmt: skip


def test_one_core_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda who: {0})
    assert main(["bench", "processes", "--quick", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "processes-quick.json").read_text())
    assert (list(found["absent"]), found["rows"]) == (["two processes"], {})

"""Told to save or to stop: at the end of a step, at once when told twice, and the run goes on as if nothing had been."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import Child, forked, pair
from faulted import Dots, command, go, numbers, same

from sfumato.diffusion.launch import Processes
from sfumato.diffusion.run_folder import RunFolder
from sfumato.tools.cli import main

LONG = {"steps": 60, "save_every": 0}


def telling(say, folder, pause=0.0, **changes):
    """The command line, saying when a step begins and what has been saved; each step lasts a pause."""
    batch, save, count = Dots.batch, RunFolder.save, [0]

    def read(self, index):
        count[0] += 1
        say(f"step {count[0]}")
        time.sleep(pause)
        return batch(self, index)

    def saved(self, step, *rest):
        save(self, step, *rest)
        say(f"saved {step}")

    Dots.batch, RunFolder.save = read, saved
    return main(command(folder, **changes))


@pytest.fixture
def quiet(place):
    assert forked(lambda: go(place / "quiet", **LONG) and None, place / "log") == 0
    return numbers(place / "quiet")


@pytest.mark.fault(11)
def test_told_to_stop(place, injected, quiet):
    """Saved within a step, status 0 for SIGTERM and 130 for Ctrl-C, one line about how to go on; the end is that of a quiet run."""
    folder, took = place / "run", []
    for number, status in ((signal.SIGTERM, 0), (signal.SIGINT, 130), (signal.SIGTERM, 0)):
        log = place / f"log-{len(took)}"
        child = Child(lambda say: telling(say, folder, 0.01, **LONG), log)
        child.until("step 5")
        began = time.monotonic()
        child.kill(number)
        assert child.ended() == status, log.read_text()
        took.append(time.monotonic() - began)
        assert re.search(
            r"stopped at step \d+ of 60; the checkpoint is saved\ngo on with: sfumato train", log.read_text()
        )
        assert "Traceback" not in log.read_text()
        assert child.said()[-1] == f"saved {numbers(folder)[0]}"
    go(folder, **LONG)
    assert same(numbers(folder), quiet)
    assert max(took) < 10
    injected(f"SIGTERM and Ctrl-C to the trainer, which ends in {max(took):.1f} s at most", 3, 0)


@pytest.mark.fault(12)
def test_told_to_save_and_told_twice(place, injected, quiet):
    """SIGUSR1 saves and goes on. A second SIGTERM ends a step that takes for ever, and the checkpoint stays."""
    folder = place / "run"
    child = Child(lambda say: telling(say, folder, 0.01, **LONG), place / "log")
    for step in (5, 20):
        child.until(f"step {step}")
        child.kill(signal.SIGUSR1)
        time.sleep(0.1)
    assert child.ended() == 0, (place / "log").read_text()
    saved = [line for line in child.said() if line.startswith("saved")]
    assert len(saved) == 3
    assert saved[-1] == "saved 60"
    assert same(numbers(folder), quiet)
    twice = place / "twice"
    child = Child(lambda say: telling(say, twice, 0.01, **{**LONG, "save_every": 3}), place / "log")
    child.until("saved 3")
    child.kill()
    child.ended()
    child = Child(lambda say: telling(say, twice, 60.0, **{**LONG, "save_every": 3}), place / "log")
    child.until("step 1")
    child.kill(signal.SIGTERM)
    time.sleep(0.2)
    assert not child.gone()
    began = time.monotonic()
    child.kill(signal.SIGTERM)
    assert child.ended() == -signal.SIGTERM
    took = time.monotonic() - began
    assert took < 2
    assert numbers(twice)[0] % 3 == 0
    injected(f"SIGUSR1 twice, and SIGTERM twice, which ends it in {took:.1f} s", 4, 0)


@pytest.mark.fault(11)
@pytest.mark.fault(12)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_told_while_asking_the_other(place, injected, number):
    """A signal that comes after a process has said that it was told nothing is heard one step later."""

    def do(rank):
        gather, count = Processes.gather, [0]

        def late(self, value):
            found = gather(self, value)
            if len(value) == 3:  # what signals ask for, step by step
                count[0] += 1
                if count[0] == 5:
                    os.kill(os.getpid(), number)
            return found

        Processes.gather = late
        go(place / "run", **LONG)

    two = pair(do, place / "log")
    codes = [child.ended() for child in two]
    saved = sorted(int(path.name[5:]) for path in (place / "run" / "checkpoints").iterdir())
    assert (codes, saved) == (([1, 1], [5]) if number == signal.SIGTERM else ([0, 0], [5, 60])), two[0].log.read_text()
    injected(f"{number.name} to both of two, while they ask each other", 1, 0)


@pytest.mark.fault(11)
@pytest.mark.slow
def test_torchrun_told_to_stop(place, injected):
    """The launcher passes it on; both processes stop at the same step, and one of them saves."""
    two = {**LONG, "steps": 200, "save_every": 50}
    words = command(place / "run", **two)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        "--master_port",
        "29533",
        "-m",
        "sfumato.tools.cli",
    ]
    with (place / "log").open("w") as log:
        process = subprocess.Popen([*launch, *words], env=environment, stdout=log, stderr=log)
        while not list(place.glob("run/checkpoints/step-*")):
            assert process.poll() is None, (place / "log").read_text()
            time.sleep(0.05)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    took = time.monotonic() - began
    assert "the checkpoint is saved" in (place / "log").read_text()
    assert took < 10
    assert 50 <= numbers(place / "run")[0] < 200
    # what two processes began, one ends: with two micro-batches it is the same run
    for name in ("run", "quiet"):
        go(place / name, **two, micro_batch=2)
    assert same(numbers(place / "run"), numbers(place / "quiet"))
    injected(f"SIGTERM to torchrun, which ends in {took:.1f} s, itself with {process.returncode}", 1, 0)

"""SIGKILL at random moments of training and saving: nothing that was saved is lost, and nobody has to lend a hand."""

import random
import shutil
import time
import warnings

import pytest
from children import Child, forked, pair
from faulted import go, numbers, same

from sfumato.diffusion.checkpoint import newest, valid
from sfumato.diffusion.run_folder import RunFolder

STEPS = 40


def life(say, folder, **changes):
    """Train, saying when a checkpoint begins to be written and when it has been."""
    save = RunFolder.save

    def saved(self, step, *rest):
        say("begins")
        save(self, step, *rest)
        say(step)

    RunFolder.save = saved
    say("starts")
    go(folder, steps=STEPS, keep=2, **changes)


def left(folder):
    """The step of the newest checkpoint, or 0; there must be none that is torn."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = valid(folder / "checkpoints")
    return found[0].step if found else 0


def kill(folder, rng, log, **changes):
    """One life: half of them end while a checkpoint is written, the others anywhere. Returns its status and what it had said."""
    child = Child(lambda say: life(say, folder, **changes), log)
    child.until("starts")
    if rng.random() < 0.5:
        number = rng.randrange(1, 4)
        while child.said().count("begins") < number and not child.gone():
            time.sleep(0.0005)
        time.sleep(rng.random() * 0.008)
    else:
        time.sleep(min(rng.expovariate(1 / 0.15), 0.6))
    child.kill()
    return child.ended(), child.said()


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ("kills", "changes"),
    [
        (10, {}),
        pytest.param(110, {}, marks=pytest.mark.slow),
        pytest.param(40, {"async_save": True}, marks=pytest.mark.slow),
        pytest.param(20, {"workers": 1}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_random_kills(place, injected, kills, changes):
    """After each, the newest checkpoint is whole and not older than any that was said to be saved; the end is that of a quiet run."""
    assert forked(lambda: go(place / "quiet", steps=STEPS, keep=2) and None, place / "log") == 0
    rng, done, lost, within, runs = random.Random(len(str(changes)) + kills), 0, 0, 0, 0
    while done < kills or newest(place / "killed" / "checkpoints"):
        status, said = kill(place / "killed", rng, place / "log", **changes) if done < kills else (
            Child(lambda say: life(say, place / "killed", **changes), place / "log").ended(), []
        )  # fmt: skip
        assert status in (0, -9), (place / "log").read_text()
        acknowledged = max((int(line) for line in said if line.isdigit()), default=0)
        lost += left(place / "killed") < acknowledged
        done += status == -9
        within += status == -9 and said[-1] == "begins"
        if status == 0:
            assert same(numbers(place / "killed"), numbers(place / "quiet"))
            shutil.rmtree(place / "killed")
            runs += 1
    how = f" {next(iter(changes))}" if changes else ""
    injected(f"SIGKILL at random,{how} {within} within a save, {runs} runs", done, lost)
    assert lost == 0
    assert within >= kills / 5


@pytest.mark.fault(15)
@pytest.mark.slow
def test_random_kills_of_two_processes(place, injected):
    """One or both of two processes are killed; who is left ends too, and what was saved is there."""
    assert [c.ended() for c in pair(lambda rank: go(place / "quiet", steps=STEPS) and None, place / "log")] == [0, 0]
    rng, lost = random.Random(5), 0
    for number in range(8):
        two = pair(lambda rank: go(place / "killed", steps=STEPS) and None, place / "log")
        before = left(place / "killed")
        while left(place / "killed") < min(before + 2, STEPS) and not two[0].gone():
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        reached = left(place / "killed")
        for child in two if number % 3 == 0 else [two[number % 3 - 1]]:
            child.kill()
        codes = [child.ended() for child in two]
        assert all(code != 0 for code in codes) or reached == STEPS
        lost += left(place / "killed") < reached
    assert [c.ended() for c in pair(lambda rank: go(place / "killed", steps=STEPS) and None, place / "log")] == [0, 0]
    assert same(numbers(place / "killed"), numbers(place / "quiet"))
    injected("SIGKILL of one or both of two processes", 8, lost)
    assert lost == 0

"""SIGKILL at every boundary between calls of the system that saving makes: a valid checkpoint is there at each of them."""

import os
import shutil
import signal
import sys
import warnings

import pytest
import torch
from children import Child

from sfumato.diffusion.checkpoint import save, valid

# The calls that change a disk. Between two of them it is as it was, so a kill before each, and one after the last, are all there are.
CHANGES = {
    "mkdir",
    "open",
    "write",
    "fsync",
    "chmod",
    "replace",
    "rename",
    "unlink",
    "rmdir",
    "serialize_file",
    "truncate",
}


def changes(frame, called):
    """Whether a call of C is one of them; a file that is opened to be read is none."""
    reads = called.__name__ == "open" and not {"w", "a", "x", "+"} & set(str(frame.f_locals.get("mode", "")))
    return called.__name__ in CHANGES and not reads


def write(root, step, keep):
    tensors = {"model": {"w": torch.full((3,), float(step))}, "optimizer": {"w/m": torch.zeros(2)}}
    save(root, step, tensors, {"note": step}, keep)


def damage(root, step):
    (root / f"step-{step:09d}" / "model.safetensors").write_bytes(b"damaged")


def prepare(root, case):
    """What is there before, and the save that is killed: its step, and how many to keep."""
    if case == "replaces a damaged one":
        write(root, 1, 2)
        write(root, 2, 2)
        damage(root, 2)
        return 2, 2
    if case == "passes over a damaged one":  # which must not count as one of the two that are kept
        for step in (1, 2, 3):
            write(root, step, 3)
        damage(root, 3)
        return 4, 2
    keep = 1 if case == "keeps one" else 2
    for step in range(1, keep + 1):
        write(root, step, keep)
    return keep + 1, keep


def watched(say, root, step, keep, kill_at=None):
    """Save, and end by SIGKILL before call number `kill_at` to the system, or after the last; None: say how many there are."""
    count = 0

    def watch(frame, event, called):
        nonlocal count
        if event == "c_call" and changes(frame, called):
            if count == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1

    sys.setprofile(watch)
    write(root, step, keep)
    sys.setprofile(None)
    say(count)
    if kill_at is not None:
        os.kill(os.getpid(), signal.SIGKILL)


def steps_left(root):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was damaged before
        return [found.step for found in valid(root)]


CASES = ["keeps two", "keeps one", "replaces a damaged one", "passes over a damaged one"]


@pytest.mark.fault(16)
@pytest.mark.fault(17)
@pytest.mark.fault(29)
@pytest.mark.parametrize(
    ("case", "times"),
    [
        ("keeps one", 1),
        ("replaces a damaged one", 1),
        *(pytest.param(case, 20, marks=pytest.mark.slow) for case in CASES),
    ],
)
def test_a_kill_before_every_call(place, injected, case, times):
    """What was valid before is valid until its successor is, and the next save sweeps what was left lying."""
    step, keep = prepare(place / "count", case)
    counting = Child(lambda say: watched(say, place / "count", step, keep), place / "log")
    assert counting.ended() == 0, (place / "log").read_text()
    total, lost, littered = int(counting.said()[-1]), 0, 0
    for at in range(total + 1):
        for repeat in range(times):
            root = place / f"{at}-{repeat}"
            prepare(root, case)
            before = steps_left(root)
            child = Child(lambda say, r=root, n=at: watched(say, r, step, keep, n), place / "log")
            assert child.ended() == -9, (place / "log").read_text()
            after = steps_left(root)
            lost += not after or after[0] not in (step, before[0]) or (after[0] != step and after != before)
            write(root, step + 1, keep)
            littered += any(root.glob(".*"))
            lost += steps_left(root)[0] != step + 1
            shutil.rmtree(root)
    injected(f"SIGKILL at each of {total + 1} boundaries of a save that {case}", (total + 1) * times, lost + littered)
    assert (lost, littered) == (0, 0)

"""A resumed run is the same run to the last bit, wherever it was interrupted."""

import os
import shutil
import signal

import pytest
from children import forked
from faulted import Dots, burn, go, lines, numbers, recorded, same

from sfumato.diffusion import Interrupted
from sfumato.diffusion.feed import Feed

# 12 samples and batches of 5: an epoch is 2.4 steps, so most of them end within a batch
ODD = {"steps": 6, "batch": 5, "data": Dots(noisy=True)}


def whole(folder, **changes):
    """A quiet run that is recorded."""

    def do():
        recorded(folder.with_suffix(".jsonl"))
        go(folder, **changes)

    assert forked(do, folder.with_suffix(".log")) == 0, folder.with_suffix(".log").read_text()
    return numbers(folder), lines(folder.with_suffix(".jsonl"))


def resumed(whole_run, folder, step, **changes):
    """What a fresh process, whose generators stand elsewhere, makes of the checkpoint of a step."""
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(whole_run / "config.yaml", folder)
    name = f"step-{step:09d}"
    shutil.copytree(whole_run / "checkpoints" / name, folder / "checkpoints" / name)

    def do():
        burn(step)
        recorded(folder.with_suffix(".jsonl"))
        go(folder, **changes)

    assert forked(do, folder.with_suffix(".log")) == 0, folder.with_suffix(".log").read_text()
    return numbers(folder), lines(folder.with_suffix(".jsonl"))


@pytest.mark.fault(1)
def test_from_every_step_of_two_epochs(place, injected):
    """Weights, average, optimizer, rate, order, noise, and what the user's own data set draws."""
    end, steps = whole(place / "whole", **ODD)
    assert len({tuple(map(str, line[1])) for line in steps}) == 6, "each step has its own samples and draws"
    for k in range(1, 6):
        again, made = resumed(place / "whole", place / f"from-{k}", k, **ODD)
        assert same(again, end)
        assert made == steps[k:]
    injected("a fresh process resumes, at every step of 2.5 epochs", 5, 0)


@pytest.mark.fault(3)
@pytest.mark.parametrize("more", [0, pytest.param(4, marks=pytest.mark.slow)])
def test_with_augmentation_and_workers(place, injected, more):
    """Whoever reads the data, and whether it is read ahead, changes no bit of what comes out of the global generators."""
    end, steps = whole(place / "whole", **ODD)
    for k in range(3, 4 + min(more, 2)):
        for workers in (2,) if not more else (0, 1, 2):
            again, made = resumed(place / "whole", place / f"{k}-{workers}", k, **ODD, workers=workers)
            assert same(again, end)
            assert made == steps[k:]
    injected("resume with augmentation, read by other processes", 1 if not more else 9, 0)


def stopped(folder, after, **changes):
    """Go on until a micro-batch is read, and be told to stop there."""

    def do():
        feed, count = Feed.__call__, [0]

        def fed(self, step):
            for read in feed(self, step):
                count[0] += 1
                if count[0] == after:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield read

        Feed.__call__ = fed
        burn(after)
        recorded(folder.with_suffix(".jsonl"))
        with pytest.raises(Interrupted):
            go(folder, **changes)

    assert forked(do, folder.with_suffix(".log")) == 0, folder.with_suffix(".log").read_text()
    return numbers(folder)[0]


@pytest.mark.fault(4)
def test_three_times_within_an_epoch(place, injected):
    """Twelve samples in batches of two: each is trained on once before any a second time."""
    recipe = {"steps": 8, "batch": 2, "save_every": 0}
    end, steps = whole(place / "whole", **recipe)
    folder = place / "stopped"
    assert [stopped(folder, after, **recipe) for after in (2, 1, 1)] == [2, 3, 4]

    def do():
        recorded(folder.with_suffix(".jsonl"))
        go(folder, **recipe)

    assert forked(do, folder.with_suffix(".log")) == 0
    made = lines(folder.with_suffix(".jsonl"))
    assert made == steps
    seen = [sample for line in made[:6] for part in line[1] if isinstance(part, list) for sample in part[1]]
    assert sorted(seen) == list(range(12))
    assert same(numbers(folder), end)
    injected("stopped and resumed three times within an epoch", 3, 0)


@pytest.mark.fault(5)
def test_a_stop_within_an_accumulation_ends_after_the_step(place, injected):
    """Two micro-batches a step; told to stop while the first, and while the second, is read."""
    recipe = {"steps": 6, "micro_batch": 2, "save_every": 0}
    end, steps = whole(place / "whole", **recipe)
    assert all(len(line[1]) == 4 for line in steps), "two micro-batches, each read and drawn for"
    folder = place / "stopped"
    assert [stopped(folder, after, **recipe) for after in (3, 2)] == [2, 3]
    assert forked(lambda: go(folder, **recipe) and None, folder.with_suffix(".log")) == 0
    assert same(numbers(folder), end)
    injected("told to stop between micro-batches", 2, 0)

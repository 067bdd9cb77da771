"""Two processes: the same run as one, and the same end for both when something happens to one of them."""

import json
import os
import re
import signal
import time
import warnings

import pytest
import torch
from faulted import Dots, Mixer, apart, burn, calm, forked, go, lines, numbers, pair, recorded, same, tiny

from sfumato.diffusion import Interrupted, UNet, train, update
from sfumato.diffusion.backbones import DiT
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.run_folder import RunFolder

PLAIN = {"batch": 8, "data": Dots(24)}


def ends(do, log, seconds=30.0):
    """How both processes end, what they say, and how long the slower one takes."""
    began = time.monotonic()
    two = pair(do, log)
    codes = [child.ended(seconds) for child in two]
    return codes, [child.log.read_text() for child in two], time.monotonic() - began


def both(folder, **changes):
    codes, said, _ = ends(lambda rank: go(folder, **changes) and None, folder.with_suffix(".log"))
    assert codes == [0, 0], said


def rates(folder):
    return [json.loads(line)["lr"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.fault(2)
@pytest.mark.fault(6)
@pytest.mark.fault(7)
def test_two_are_one_and_resume_as_one(place, injected):
    """Two processes, resumed by two fresh ones, and one process with two micro-batches: one run, to the last bit, rates included."""
    recipe = {**PLAIN, "steps": 6}
    folder = place / "two"

    def do(rank):
        burn(rank + 1)
        recorded(place / f"seen-{rank}.jsonl")
        go(folder, **recipe)

    codes, said, _ = ends(do, place / "log")
    assert codes == [0, 0], said
    whole = numbers(folder)
    first = [lines(place / f"seen-{rank}.jsonl") for rank in (0, 1)]
    go(place / "one", **recipe, micro_batch=4)
    assert same(numbers(place / "one"), whole)
    assert rates(place / "one") == rates(folder)
    assert len(set(rates(folder))) > 3
    for path in sorted((folder / "checkpoints").iterdir())[3:]:
        (path / "state.json").unlink()
    codes, said, _ = ends(do, place / "log")
    assert codes == [0, 0], said
    assert same(numbers(folder), whole)
    for rank in (0, 1):
        seen = lines(place / f"seen-{rank}.jsonl")
        assert seen[6:] == seen[3:6] == first[rank][3:]
    injected("two processes, stopped, resumed, and as one of two micro-batches", 3, 0)


def network(kind):
    torch.manual_seed(0)
    if kind == "Mixer":
        return Mixer(0.0)
    if kind == "UNet":
        return UNet(channels=1, size=2, num_classes=3, width=8, multipliers=(1, 2), blocks=1, attention=(1,))
    return DiT(channels=1, size=2, num_classes=3, patch=1, width=8, depth=1, heads=2)


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    ("kind", "precision", "bound"),
    [("Mixer", "fp32", 1e-4), ("Mixer", "fp64", 1e-12), ("UNet", "fp64", 1e-12), ("DiT", "fp64", 1e-12)],
)
def test_one_batch_and_halves(place, injected, kind, precision, bound):
    """Eight at once and two times four differ by rounding, in both precisions; previews and validation run in both."""
    recipe = {**PLAIN, "precision": precision, "backbone": network(kind), "steps": 4, "save_every": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".* pictures diverged")
        go(place / "one", **recipe, sample_every=4, validate_every=4, validation=Dots(8))
        go(place / "two", **recipe, micro_batch=4)
    one, two = numbers(place / "one"), numbers(place / "two")
    difference = apart(one, two)
    assert 0 < difference < bound
    assert (one[1]["model/" + next(iter(recipe["backbone"].state_dict()))].dtype == torch.float64) == (precision == "fp64")
    assert list((place / "one" / "samples").iterdir())
    injected(f"1 x 8 and 2 x 4, {kind} in {precision}: {difference:.1e} apart", 1, 0)


@pytest.mark.fault(8)
def test_another_number_of_processes(place, injected):
    """One, then two, then one process: the order of the samples and the weights of a run that never changed."""
    recipe = {**PLAIN, "save_every": 0, "backbone": calm()}
    go(place / "quiet", **recipe)

    def part(stop):
        def do(rank):
            call = update.Update.__call__

            def called(self, step):
                if step + 1 == stop:
                    os.kill(os.getpid(), signal.SIGTERM)
                return call(self, step)

            update.Update.__call__ = called
            recorded(place / f"seen-{rank}.jsonl")
            with pytest.raises(Interrupted):
                go(place / "run", **recipe)

        return do

    assert forked(lambda: part(4)(0), place / "log") == 0, (place / "log").read_text()
    codes, said, _ = ends(part(8), place / "log")
    assert codes == [0, 0], said
    assert numbers(place / "run")[0] == 8
    go(place / "run", **recipe)
    difference = apart(numbers(place / "run"), numbers(place / "quiet"))
    assert difference < 1e-5
    seen = [lines(place / f"seen-{rank}.jsonl") for rank in (0, 1)]
    middle = [a[1][0][1] + b[1][0][1] for a, b in zip(seen[0][4:], seen[1], strict=True)]
    assert all(len(set(samples)) == 8 for samples in middle)
    epoch = [s for line in seen[0][:3] for s in line[1][0][1]]
    assert sorted(epoch) == list(range(24))
    injected(f"1, 2 and 1 processes: {difference:.1e} apart", 2, 0)


@pytest.mark.fault(9)
@pytest.mark.fault(10)
def test_a_gradient_that_is_not_finite_in_one(place, injected):
    """Both decide alike: to stop, naming the process; and to skip, by the same step."""

    def infinite(policy):
        def do(rank):
            if rank == 1:
                forward = Mixer.forward

                def broken(self, x, time, labels=None):
                    out = forward(self, x, time, labels)
                    if torch.is_grad_enabled() and newest(place / policy / "checkpoints"):
                        out.register_hook(lambda g: g * torch.inf)
                    return out

                Mixer.forward = broken
            go(place / policy, **PLAIN, nonfinite=policy, nonfinite_limit=3)

        return do

    for policy, words in (("stop", "no update was made"), ("skip", "3 updates before it were left out in a row")):
        codes, said, took = ends(infinite(policy), place / "log")
        assert codes == [1, 1]
        for text in said:
            assert re.search(rf"NotFinite: step \d+: .*{words}.*samples [\d, ]+ of process 1", text), text
        assert len({re.search(r"NotFinite: step (\d+)", text)[1] for text in said}) == 1
        assert all(bool(v.isfinite().all()) for v in numbers(place / policy)[1].values())
        for log in place.glob("log.*"):
            log.unlink()
    injected(f"an infinite gradient in one of two, which end within {took:.1f} s", 2, 0)


@pytest.mark.fault(13)
def test_one_of_two_dies(place, injected):
    """Killed, it leaves the other no time to wait for ever, and no torn checkpoint."""

    def do(rank):
        batch = Dots.batch

        def dying(self, index):
            if rank == 1 and newest(place / "run" / "checkpoints"):
                os.kill(os.getpid(), signal.SIGKILL)
            return batch(self, index)

        Dots.batch = dying
        go(place / "run", **PLAIN)

    codes, _, took = ends(do, place / "log")
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    step = numbers(place / "run")[0]
    both(place / "run", **PLAIN)
    both(place / "quiet", **PLAIN)
    assert same(numbers(place / "run"), numbers(place / "quiet"))
    injected(f"kill -9 one of two at step {step}; the other ends within {took:.1f} s", 1, 0)


@pytest.mark.fault(41)
def test_the_one_that_saves_fails(place, injected):
    """The other is told, and both end."""

    def do(rank):
        save = RunFolder.save

        def failing(self, step, *rest):
            if step == 3:
                raise OSError(5, "Input/output error")
            save(self, step, *rest)

        RunFolder.save = failing
        go(place / "run", **PLAIN)

    codes, said, took = ends(do, place / "log")
    assert codes == [1, 1]
    assert "Input/output error" in said[0]
    assert "another process has failed" in said[1]
    assert numbers(place / "run")[0] == 2
    injected(f"the save fails in one of two, which end within {took:.1f} s", 1, 0)


@pytest.mark.fault(42)
def test_two_recipes(place, injected):
    """Refused by both before a step, naming the process."""
    codes, said, took = ends(lambda rank: go(place / "run", **PLAIN, lr=1e-3 * (1 + rank)) and None, place / "log")
    assert codes == [1, 1]
    assert all("the recipe of process 1 is not that of process 0" in text for text in said)
    assert not (place / "run").exists()
    injected(f"two recipes in two processes, which end within {took:.1f} s", 1, 0)


@pytest.mark.fault(40)
def test_fewer_processes_than_were_asked_for(place, injected, monkeypatch):
    """By torchrun's words without its processes, and by `accelerate launch --cpu`, which starts one of two and says nothing."""
    launched = {
        "torchrun": {"WORLD_SIZE": "2"},
        "accelerate": {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "ACCELERATE_USE_CPU": "True",
                       "ACCELERATE_MIXED_PRECISION": "no"},
    }  # fmt: skip
    for name, environment in launched.items():
        with monkeypatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            with pytest.raises(ValueError, match=r"launch.*torchrun"):
                train(tiny(), place / name, progress=False)
        assert not (place / name).exists()
    injected("one process where two were asked for", len(launched), 0)
    # and alone, nobody is refused
    go(place / "alone", steps=1)

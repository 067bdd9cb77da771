"""One process: numbers that are not finite, memory that runs out, readers that die, two trainers at once, saves in the background."""

import os
import re
import signal
import time

import pytest
import torch
from children import Child, forked
from faulted import Dots, Mixer, Poisoned, command, go, numbers, same

from sfumato.diffusion import checkpoint, saver
from sfumato.diffusion.checkpoint import newest
from sfumato.tools.cli import main


@pytest.mark.fault(9)
def test_a_batch_that_is_not_finite(place, injected):
    """Stop: no update, process and sample named. Skip: left out, the same again after a resume, and not without end."""
    bad = {"data": Poisoned(bad=(4,))}
    with pytest.raises(FloatingPointError, match=r"step \d+: the loss is nan.*samples 4 of process 0") as caught:
        go(place / "stop", **bad)
    step, found = numbers(place / "stop")
    assert f"step {step}:" in str(caught.value)
    assert same((step, found), stopped_before(place / "good", step))
    go(place / "skip", **bad, nonfinite="skip")
    step, found = numbers(place / "skip")
    assert step == 12
    assert all(bool(v.isfinite().all()) for v in found.values())
    assert newest(place / "skip" / "checkpoints").state["skipped"][0] == 4, "once an epoch"
    for path in sorted((place / "skip" / "checkpoints").iterdir())[5:]:
        (path / "state.json").unlink()
    with pytest.warns(UserWarning, match="is skipped"):
        go(place / "skip", **bad, nonfinite="skip")
    assert same(numbers(place / "skip"), (step, found))
    with pytest.raises(FloatingPointError, match=r"neither was one in the 2 steps before it"):
        go(place / "cap", data=Poisoned(bad=tuple(range(12))), nonfinite="skip", nonfinite_limit=2)
    assert same(numbers(place / "cap", 2), numbers(place / "cap"))
    injected("a batch that is not finite, under stop, skip, and skip with a cap", 3, 0)


def stopped_before(folder, step):
    """What a healthy run has after so many steps."""
    go(folder)
    return numbers(folder, step)


@pytest.mark.fault(14)
def test_memory_runs_out(place, injected):
    """The step is named, the steps before it are saved, and the run goes on to the same end when there is memory."""

    def do(say):
        forward, count = Mixer.forward, [0]

        def greedy(self, x, time, labels=None):
            count[0] += self.training and torch.is_grad_enabled()
            if count[0] == 6:
                raise MemoryError("no more")
            return forward(self, x, time, labels)

        Mixer.forward = greedy
        return main(command(place / "run", save_every=0))

    child = Child(do, place / "log")
    assert child.ended() == 1
    said = (place / "log").read_text()
    assert re.search(
        r"sfumato train: step 5: out of memory; the steps before it are saved. Set micro_batch below 4", said
    )
    assert "Traceback" not in said
    assert numbers(place / "run")[0] == 5
    go(place / "run", save_every=0)
    assert same(numbers(place / "run"), stopped_before(place / "quiet", 12))
    injected("MemoryError within a step", 1, 0)


@pytest.mark.fault(14)
def test_an_error_within_the_update_itself(place, injected):
    """Weights that are half of one step are saved as no step's."""

    def do():
        step, count = torch.optim.AdamW.step, [0]

        def half(self, *rest):
            count[0] += 1
            if count[0] == 6:
                with torch.no_grad():
                    self.param_groups[0]["params"][0].add_(1.0)
                raise MemoryError("no more")
            return step(self, *rest)

        torch.optim.AdamW.step = half
        with pytest.raises(MemoryError, match="step 5"):
            go(place / "run", save_every=2)

    assert forked(do, place / "log") == 0, (place / "log").read_text()
    assert numbers(place / "run")[0] == 4
    go(place / "run", save_every=2)
    assert same(numbers(place / "run"), stopped_before(place / "quiet", 12))
    injected("MemoryError within the optimizer's update", 1, 0)


def patient(say, folder, **changes):
    """Train slowly, saying that it does."""
    batch = Dots.batch

    def slow(self, index):
        say("reads")
        time.sleep(0.05)
        return batch(self, index)

    Dots.batch = slow
    return main(command(folder, steps=1000, **changes))


@pytest.mark.fault(27)
@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_two_trainers(place, injected, workers):
    """The second ends with 2 and says who is there; killed, the first leaves the folder free, though its readers live on."""
    first = Child(lambda say: patient(say, place / "run", workers=workers), place / "log")
    first.until("reads")
    while newest(place / "run" / "checkpoints") is None:
        time.sleep(0.01)
    second = Child(lambda say: main(command(place / "run", steps=1000)), place / "second")
    assert second.ended() == 2
    host = os.uname().nodename
    assert re.search(rf"is being written by process {first.pid} on {re.escape(host)}", (place / "second").read_text())
    assert not first.gone()
    first.kill()
    first.ended()
    began = time.monotonic()
    third = Child(lambda say: patient(say, place / "run"), place / "third")
    third.until("reads")
    took = time.monotonic() - began
    third.kill()
    third.ended()
    injected(f"two trainers, {workers} readers each; free {took:.1f} s after a kill", 1, 0)
    assert took < 20


@pytest.mark.fault(28)
def test_weights_that_change_while_they_are_saved(place, injected, monkeypatch):
    """What is saved is what it was when it was asked for; and a save that fails behind the trainer's back is told of."""
    go(place / "quiet")
    real = checkpoint.save_file

    def slow(values, path):
        time.sleep(0.05)  # some steps
        real(values, path)

    monkeypatch.setattr(checkpoint, "save_file", slow)
    go(place / "run", async_save=True, save_every=3)
    for step in (3, 6, 9, 12):
        assert same(numbers(place / "run", step), numbers(place / "quiet", step))
    begun = set()

    def failing(values, path):
        begun.add(path.parent)
        if len(begun) > 1:  # the second checkpoint
            raise OSError(5, "Input/output error", str(path))
        real(values, path)

    monkeypatch.setattr(checkpoint, "save_file", failing)
    with pytest.raises(OSError, match="Input/output error"):
        go(place / "failed", async_save=True, save_every=3)
    assert numbers(place / "failed")[0] == 3
    assert saver.Saver(True).failed() is None
    injected("weights change, or the disk fails, during a save in the background", 5, 0)


@pytest.mark.fault(38)
def test_a_reader_dies(place, injected):
    """Told of within 30 s, in a line; the steps before are saved."""

    def do(say):
        batch = Dots.batch

        def dying(self, index):
            time.sleep(0.05)
            if newest(place / "run" / "checkpoints"):
                os.kill(os.getpid(), signal.SIGKILL)
            return batch(self, index)

        Dots.batch = dying
        return main(command(place / "run", workers=2, save_every=2))

    began = time.monotonic()
    child = Child(do, place / "log")
    assert child.ended(40) == 1, (place / "log").read_text()
    took = time.monotonic() - began
    said = (place / "log").read_text()
    assert re.search(r"sfumato train: .*worker.*pid.* (is killed by signal|exited unexpectedly)", said)
    assert "Traceback" not in said
    go(place / "run", save_every=2)
    assert same(numbers(place / "run"), stopped_before(place / "quiet", 12))
    injected(f"kill -9 a reading process; noticed after {took:.1f} s", 1, 0)
    assert took < 30


@pytest.mark.fault(69)
def test_a_dry_run(place, injected, capsys):
    """Data, config, disk and one step, in seconds, and nothing is written."""
    began = time.monotonic()
    assert main([*command(place / "run")[:-3], "--dry_run", "--allow", "faulted"]) == 0
    took = time.monotonic() - began
    assert not (place / "run").exists()
    said = capsys.readouterr().out
    assert "the parts fit together" in said
    assert took < 10
    injected(f"a dry run, {took:.1f} s", 1, 0)

"""Something happens to one of two processes: both end, in seconds, and what was saved stays."""

import os
import re
import signal

import pytest
import torch
from children import ends
from faulted import Dots, Mixer, go, numbers, same, tiny

from sfumato.diffusion import train
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.run_folder import RunFolder

PLAIN = {"batch": 8, "data": Dots(24)}


def both(folder, **changes):
    codes, said, _ = ends(lambda rank: go(folder, **changes) and None, folder.with_suffix(".log"))
    assert codes == [0, 0], said


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

    for policy, words in (("stop", "no update was made"), ("skip", "neither was one in the 3 steps before it")):
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

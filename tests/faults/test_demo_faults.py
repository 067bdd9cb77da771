"""Crowds at the demo: 64 at once, visitors who vanish, checkpoints that are published while pictures are made."""

import gc
import threading
import time

import numpy as np
import pytest
from crowded import Guest, expected, resident, until
from demoed import served
from faulted import tiny
from modelled import made

from sfumato.diffusion import load, train
from sfumato.tools.demo.find import entry_of
from sfumato.tools.demo.shelf import Entry


class Watched:
    """A model whose network counts its calls, takes its time, and does something at one of them."""

    def __init__(self, pause=0.0, model=None, act=None):
        self.calls, self.pause, self.act, self._model = [], pause, act or (lambda n: None), model

    def load(self):
        model = self._model or made()
        model.denoiser.backbone.register_forward_pre_hook(self._call)
        return model

    def _call(self, *_):
        self.calls.append(time.perf_counter())
        self.act(len(self.calls))
        time.sleep(self.pause)


def crowd(where, count, steps, first):
    """So many visitors at once, each with a seed of his own: his pictures, or how long it took to refuse him."""
    gate, pictures, refused, wrong = threading.Barrier(count), {}, [], []

    def one(seed):
        guest = Guest(where)
        try:
            gate.wait(30)
            status, body, seconds = guest.join("m", seeds=str(seed), count=1, steps=steps, labels="3")
            if status == 200:
                pictures[seed] = guest.pictures()
            else:
                refused.append((status, body, seconds))
        except Exception as error:
            wrong.append(repr(error))
        finally:
            guest.leave()

    threads = [threading.Thread(target=one, args=(first + i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong, wrong[:3]
    assert len(pictures) + len(refused) == count
    return pictures, refused


def rounds(count, times, steps, pause, injected, within):
    model, watched = made(), Watched(pause)
    with served([Entry("m", watched.load)]) as where:
        Guest(where).join("m", steps=1)
        sizes, waits = [], []
        for turn in range(times):
            pictures, refused = crowd(where, count, steps, 1000 * turn)
            for seed, found in pictures.items():
                ((pixels, settings),) = found
                assert settings["seed"] == seed
                assert np.array_equal(pixels, expected(model, seed, 3, steps=steps)), seed
            assert len(pictures) >= 16
            assert {(status, b"full" in body or b"too many" in body) for status, body, _ in refused} <= {(503, True)}
            waits += [seconds for *_, seconds in refused]
            gc.collect()
            sizes.append(resident() / 2**20)
        assert waits, "nobody was refused"
        assert max(waits) < within
        assert sizes[-1] - sizes[0] < 40, sizes
        late = Guest(where)  # and it answers as before
        assert late.join("m", seeds="5", count=1, steps=steps, labels="3")[0] == 200
        assert np.array_equal(late.pictures()[0][0], expected(model, 5, 3, steps=steps))
        assert where.running.count == 0
    grown = f"{sizes[-1] - sizes[0]:+.0f} MiB over {times} rounds"
    injected(f"{count} visitors at once, {len(waits)} refused in {max(waits):.2f} s at most, {grown}", count * times, 0)


@pytest.mark.fault(58)
def test_24_at_once(injected):
    rounds(24, 2, 4, 0.02, injected, within=5.0)  # beside other tests on the same cores


@pytest.mark.fault(58)
@pytest.mark.slow
def test_64_at_once(injected):
    rounds(64, 3, 4, 0.02, injected, within=1.0)


def left_after(where, watched, guest, leave):
    """How many steps are made after a visitor is gone, and how long the slot stays taken."""
    until(lambda: len(watched.calls) >= 4)
    before, began = len(watched.calls), time.perf_counter()
    leave(guest)
    until(lambda: where.running.count == 0)
    seconds = time.perf_counter() - began
    time.sleep(3 * watched.pause + 0.2)
    return len(watched.calls) - before, seconds


# steps that last longer than the news of a closed connection takes, tens of milliseconds on busy cores; of shorter ones more
# are made
WAYS = {
    "a tab that is closed": (True, 0.15), "a program that reads no more": (False, 0.15), "a stop that he asks for": (True, 0.01),
}  # fmt: skip


@pytest.mark.fault(63)
@pytest.mark.parametrize("how", list(WAYS))
def test_a_visitor_vanishes(injected, how):
    """While his pictures are made: no more than two steps follow, and the next visitor has his turn."""
    heart, pause = WAYS[how]
    watched, model = Watched(pause), made()
    with served([Entry("m", watched.load)]) as where:
        guest, after = Guest(where, heart), Guest(where)
        assert guest.join("m", steps=250, count=1)[0] == 200
        guest.listen()
        if how == "a stop that he asks for":
            steps, seconds = left_after(where, watched, guest, lambda g: where.running.stop(g.session))
        else:
            steps, seconds = left_after(where, watched, guest, Guest.leave)
        assert steps <= 2
        assert after.join("m", seeds="7", count=1, steps=3, labels="3")[0] == 200
        assert np.array_equal(after.pictures()[0][0], expected(model, 7, 3, steps=3))
        guest.leave()
    injected(f"{how}: {steps} steps more, free after {seconds:.2f} s", 1, 0)


@pytest.mark.fault(63)
def test_a_visitor_vanishes_from_the_queue(injected):
    """His pictures are never begun, whoever else waits."""
    model = made()
    watched = Watched(0.01)
    with served([Entry("m", watched.load)]) as where:
        first, gone, last = (Guest(where, heart=True) for _ in range(3))
        first.join("m", steps=60, count=1)
        first.listen()
        until(lambda: len(watched.calls) >= 2)
        gone.join("m", seeds="1", steps=250, count=1)
        last.join("m", seeds="7", steps=3, count=1, labels="3")
        gone.listen()
        time.sleep(0.1)
        gone.leave()
        assert np.array_equal(last.pictures()[0][0], expected(model, 7, 3, steps=3))
        assert len(watched.calls) <= 63
        first.leave()
    injected("a visitor who waits vanishes; nothing is begun for him", 1, 0)


def grown(folder, steps):
    """A run that is trained, or trained on, with a checkpoint of every step; in a thread, since sampling keeps no gradients."""
    recipe = tiny(steps=steps, lr=0.05, save_every=1, keep=100)
    training = threading.Thread(target=lambda: train(recipe, folder, resume=True, progress=False))
    training.start()
    training.join()
    return folder


def whose(pixels, settings, folder):
    """The checkpoint that a picture says it is of, once it is seen to be the very picture of it."""
    step = settings["checkpoint"]
    model = load(folder, step=step, allow=["faulted"])
    assert np.array_equal(pixels, expected(model, settings["seed"], 1, steps=3)), step
    return step


@pytest.mark.fault(64)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_checkpoint_is_published_in_the_middle_of_a_picture(injected, tmp_path):
    """The picture is the old model's to its end, and the next is the new one's."""
    folder = grown(tmp_path / "run", 3)
    entry = entry_of(folder, allow=["faulted"])
    watched = Watched(act=lambda call: grown(folder, 6) if call == 2 else None)

    def make():
        watched._model = entry.load()
        return watched.load()

    with served([Entry("m", make, entry.newest)]) as where:
        found = []
        for _ in range(2):
            guest = Guest(where)
            assert guest.join("m", seeds="11", count=1, steps=3, labels="1")[0] == 200
            ((pixels, settings),) = guest.pictures()
            found.append((whose(pixels, settings, folder), pixels))
    assert [step for step, _ in found] == [3, 6]
    assert not np.array_equal(found[0][1], found[1][1])
    injected("a checkpoint between two steps of a picture", 1, 0)


@pytest.mark.slow  # trains while it samples
@pytest.mark.fault(64)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pictures_while_a_run_is_trained(injected, tmp_path):
    """Forty checkpoints appear while visitors sample: each picture is one checkpoint's, and none is older than what was there before."""
    folder = grown(tmp_path / "run", 1)
    entry, seen = entry_of(folder, allow=["faulted"]), []
    with served([Entry("m", entry.load, entry.newest)]) as where:
        training = threading.Thread(target=grown, args=(folder, 40))
        training.start()
        over = False
        while not over:
            over, there = not training.is_alive(), entry.newest().step
            guest = Guest(where)
            assert guest.join("m", seeds="11", count=1, steps=3, labels="1")[0] == 200
            ((pixels, settings),) = guest.pictures()
            seen.append(whose(pixels, settings, folder))
            assert seen[-1] >= there
        training.join()
    assert seen == sorted(seen)
    assert seen[-1] == 40
    injected(f"40 checkpoints while {len(seen)} pictures are made, of {len(set(seen))} of them", 40, 0)

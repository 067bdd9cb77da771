"""The shelf: loaded once for all, nobody waits for another model, what can't be loaded says so and takes nothing with it."""

import threading
import time
from types import SimpleNamespace

import pytest
import torch
from modelled import made

from sfumato.tools.demo.shelf import Entry, Shelf


class Maker:
    """Loads models, counts how often, and may be slow or fail."""

    def __init__(self, error=None, slow=0.0, seed=0):
        self.error, self.slow, self.seed, self.times, self.step = error, slow, seed, 0, 0

    def __call__(self):
        self.times += 1
        time.sleep(self.slow)
        if self.error is not None:
            raise self.error
        return made(self.seed)

    def entry(self, name):
        return Entry(name, self, lambda: self.step)


def together(count, do):
    found, gate = [], threading.Barrier(count)

    def one():
        gate.wait(10)
        found.append(do())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


def test_two_visitors_at_once_load_it_once():
    maker = Maker(slow=0.1)
    shelf = Shelf([maker.entry("one")])
    assert not shelf.ready("one")
    found = together(6, lambda: shelf.get("one"))
    assert maker.times == 1
    assert len({id(each.model) for each in found}) == 1
    assert shelf.ready("one")


def test_a_slow_load_blocks_nobody_who_wants_another_model():
    inside, leave = threading.Event(), threading.Event()

    def slow():
        inside.set()
        leave.wait(10)
        return made()

    shelf = Shelf([Maker().entry("there"), Entry("slow", slow)])
    shelf.get("there")
    waiting = threading.Thread(target=shelf.get, args=("slow",))
    waiting.start()
    inside.wait(10)
    began = time.perf_counter()
    shelf.get("there")
    assert shelf.ready("there")
    assert not shelf.ready("slow")
    assert shelf.names == ["there", "slow"]
    shelf.add(Maker().entry("more"))
    shelf.get("more")
    assert time.perf_counter() - began < 1.0
    leave.set()
    waiting.join(10)
    assert shelf.ready("slow")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("/home/me/runs/x holds no valid checkpoint; train it"), "x holds no valid checkpoint; train it"),
        (OSError(28, "No space left", "/home/me/runs/x/model.safetensors"), "No space left: 'model.safetensors'"),
        (MemoryError(), "MemoryError"),
        (RuntimeError("size mismatch\nin two lines"), "size mismatch in two lines"),
        (ImportError("No module named 'transformers'"), "No module named 'transformers'"),
    ],
    ids=["value", "os", "memory", "runtime", "import"],
)
def test_what_cannot_be_loaded_says_why_and_takes_nothing_with_it(error, words):
    bad, good = Maker(error), Maker()
    shelf = Shelf([bad.entry("bad"), good.entry("good")])
    shelf.get("good")
    for _ in range(2):
        with pytest.raises(ValueError, match="bad can't be loaded") as found:
            shelf.get("bad")
        assert words in str(found.value)
        assert "/home" not in str(found.value)
    assert shelf.ready("good")
    bad.error = None  # and it is tried again
    assert shelf.get("bad").entry.name == "bad"
    assert good.times == 1


@pytest.mark.parametrize("name", ["nobody", "../secret", None, 3, ["one"], {"a": 1}, "one "], ids=repr)
def test_only_names_of_the_list(name):
    shelf = Shelf([Maker().entry("one")])
    for ask in (shelf.get, shelf.ready, shelf.entry):
        with pytest.raises(ValueError, match="no such model; allowed: one"):
            ask(name)


def test_a_newer_checkpoint_is_taken_by_the_next_and_the_old_one_goes_on():
    maker = Maker(seed=0)
    shelf = Shelf([maker.entry("run")])
    old = shelf.get("run")
    before = old.model.sample([3], [1]).images
    maker.step, maker.seed = 1, 1
    assert not shelf.ready("run")
    new = shelf.get("run")
    assert (maker.times, new.version, old.version) == (2, 1, 0)
    assert torch.equal(old.model.sample([3], [1]).images, before)
    assert not torch.equal(new.model.sample([3], [1]).images, before)
    assert shelf.get("run") is new


def test_replaced_while_it_is_read_it_is_read_again():
    """A trainer removes the checkpoint that is being read once a newer one is there."""
    state = SimpleNamespace(step=0, times=0)

    def load():
        state.times += 1
        if state.step < 2:
            state.step += 1
            raise ValueError("a file is gone")
        return made()

    assert Shelf([Entry("run", load, lambda: state.step)]).get("run").version == 2
    assert state.times == 3


def test_the_one_used_longest_ago_goes_and_the_last_stays():
    size = sum(p.numel() * p.element_size() for p in made().denoiser.parameters())
    makers = {name: Maker() for name in "abc"}
    shelf = Shelf([maker.entry(name) for name, maker in makers.items()], kept=2 * size)
    for name in "abac":  # b was used longest ago when c comes
        shelf.get(name)
    assert [shelf.ready(name) for name in "abc"] == [True, False, True]
    assert {name: maker.times for name, maker in makers.items()} == {"a": 1, "b": 1, "c": 1}
    assert Shelf([Maker().entry("big")], kept=1).get("big").model is not None  # alone it stays, whatever its size


def test_weights_of_a_vae_and_of_text_encoders_count():
    layer = torch.nn.Linear(8, 8)
    text = SimpleNamespace(_pipeline=SimpleNamespace(components={"text_encoder": layer, "scheduler": object()}))
    one = made()
    one.vae, one.text = SimpleNamespace(_module=torch.nn.Linear(4, 4, bias=False)), text
    size = sum(p.numel() * 4 for p in one.denoiser.parameters())
    from sfumato.tools.demo import shelf

    assert shelf._bytes(one) == size + 4 * 16 + 4 * 72


def test_equal_names_get_numbers():
    shelf = Shelf([Maker().entry("run"), Maker().entry("run")])
    assert shelf.add(Maker().entry("run")) == "run (3)"
    assert shelf.names == ["run", "run (2)", "run (3)"]

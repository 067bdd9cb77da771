"""A step that came to nothing, and what is only tried, leave nothing behind: neither in a run nor in what it tells."""

import json

import pytest
import torch
from faulted import Dots, Mixer, Poisoned, go, numbers, same, tiny
from torch import nn

from sfumato.diffusion import train
from sfumato.diffusion.buckets import Buckets
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.memory_probe import out_of_memory
from sfumato.diffusion.replay import replay
from sfumato.diffusion.update import Update


class Normed(Mixer):
    """A backbone with running statistics, and a list of blocks."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.config = {}
        self.blocks, self.norm = nn.ModuleList([nn.Linear(16, 16)]), nn.BatchNorm1d(16)

    def forward(self, x, time, labels=None):
        h = self.first(torch.cat([x.flatten(1), time[:, None].to(x)], dim=1))
        return self.last(nn.functional.silu(self.norm(self.blocks[0](h)))).view_as(x)


def normed(**changes):
    torch.manual_seed(0)
    return tiny(backbone=Normed(), **changes)


def statistics(folder, step=None):
    return {k: v for k, v in numbers(folder, step)[1].items() if "running" in k or "tracked" in k}


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_update_that_is_left_out_leaves_running_statistics_as_they_were(tmp_path):
    # sample 3 comes by once in three steps, each of them is left out
    train(normed(data=Poisoned(bad=(3,)), nonfinite="skip", steps=6), tmp_path, progress=False)
    found = newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.state["skipped"][0] == 2
    assert float(found.tensors("model")["norm.num_batches_tracked"]) == 4.0
    assert all(bool(v.isfinite().all()) for v in numbers(tmp_path)[1].values())


@pytest.mark.parametrize("at", [10, 11])  # one of them is the second micro-batch of a step
def test_an_error_within_a_step_saves_the_statistics_of_the_steps_before_it(at, tmp_path, monkeypatch):
    train(normed(micro_batch=2), tmp_path / "whole", progress=False)
    plain, read = Dots.batch, []

    def batch(self, index):
        read.append(index)
        if len(read) == at:
            raise OSError("the disk is gone")
        return plain(self, index)

    monkeypatch.setattr(Dots, "batch", batch)
    recipe = normed(micro_batch=2, save_every=0)
    with pytest.raises(OSError, match="the disk is gone"):
        train(recipe, tmp_path / "broken", progress=False)
    monkeypatch.undo()
    step, _ = numbers(tmp_path / "broken")
    assert 0 < step < 6
    whole, broken = statistics(tmp_path / "whole", step), statistics(tmp_path / "broken")
    assert whole.keys() == broken.keys()
    assert all(torch.equal(whole[k], broken[k]) for k in whole)
    train(recipe, tmp_path / "broken", resume=True, progress=False)
    assert same(numbers(tmp_path / "whole"), numbers(tmp_path / "broken"))


def test_a_micro_batch_that_is_only_tried_moves_no_statistics(tmp_path):
    for name, size in (("given", 4), ("auto", "auto")):
        train(normed(steps=1, micro_batch=size), tmp_path / name, progress=False)
    assert same(numbers(tmp_path / "given"), numbers(tmp_path / "auto"))


def test_auto_halves_where_the_host_has_no_more_memory(tmp_path, monkeypatch):
    plain = Mixer.forward

    def forward(self, x, *rest, **named):
        if len(x) > 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory")
        return plain(self, x, *rest, **named)

    monkeypatch.setattr(Mixer, "forward", forward)
    train(tiny(steps=1, micro_batch="auto"), tmp_path / "auto", progress=False)
    monkeypatch.undo()
    train(tiny(steps=1, micro_batch=2), tmp_path / "two", progress=False)
    assert same(numbers(tmp_path / "auto"), numbers(tmp_path / "two"))
    assert not out_of_memory(RuntimeError("shapes do not match"))
    assert not out_of_memory(ValueError("allocate memory"))


def test_no_more_memory_is_said_even_by_an_error_that_says_nothing(tmp_path, monkeypatch):
    plain = Update.__call__

    def update(self, step):
        if step == 2:
            raise MemoryError
        return plain(self, step)

    monkeypatch.setattr(Update, "__call__", update)
    with pytest.raises(MemoryError, match=r"step 2: out of memory; the steps before it are saved.*\(no more\)"):
        train(tiny(save_every=0), tmp_path, progress=False)
    assert numbers(tmp_path)[0] == 2


def test_an_error_after_the_weights_have_moved_saves_none_of_them_under_the_step_before(tmp_path, monkeypatch):
    plain = Buckets.add

    def add(self, level, error):
        if self.counts.sum() == 16.0:
            raise RuntimeError("the device is gone")
        plain(self, level, error)

    monkeypatch.setattr(Buckets, "add", add)
    with pytest.raises(RuntimeError, match="the device is gone"):
        train(tiny(save_every=3, log_every=12), tmp_path / "broken", progress=False)
    monkeypatch.undo()
    assert numbers(tmp_path / "broken")[0] == 3
    go(tmp_path / "broken", save_every=3, log_every=12)
    go(tmp_path / "whole", save_every=3, log_every=12)
    assert same(numbers(tmp_path / "whole"), numbers(tmp_path / "broken"))


def test_a_line_of_the_log_is_the_same_though_a_checkpoint_came_between(tmp_path, monkeypatch):
    recipe = normed(save_every=3, log_every=8, steps=16)
    train(recipe, tmp_path / "whole", progress=False)
    plain = Update.__call__

    def update(self, step):
        if step == 7:
            raise OSError("gone")
        return plain(self, step)

    monkeypatch.setattr(Update, "__call__", update)
    with pytest.raises(OSError, match="gone"):
        train(recipe, tmp_path / "broken", progress=False)
    monkeypatch.undo()
    assert numbers(tmp_path / "broken")[0] == 7
    train(recipe, tmp_path / "broken", resume=True, progress=False)
    timed = {"images_per_second", "memory_mib"}
    whole, broken = (
        [{k: v for k, v in x.items() if k not in timed} for x in lines(tmp_path / n)] for n in ("whole", "broken")
    )
    assert [x["step"] for x in whole] == [8, 16]
    assert sum(whole[0]["buckets"]["count"]) == 8 * recipe.batch
    assert whole == broken


def test_a_run_that_logs_what_grows_is_verified_all_the_same(tmp_path):
    recipe = normed(save_every=6, log_every=2)
    train(recipe, tmp_path, progress=False)
    found = replay(recipe, tmp_path, 50, progress=False)
    assert (found.whole, found.differences) == (True, ())


@pytest.mark.parametrize(("key", "value"), [("steps", 20), ("micro_batch", 2), ("threads", 2)])
def test_a_replay_under_what_changes_the_last_bit_is_refused(tmp_path, key, value):
    go(tmp_path, save_every=6)
    with pytest.raises(ValueError, match=rf"{key} was .*, is {value}\. Verify it as it was trained"):
        replay(tiny(save_every=6, **{key: value}), tmp_path, 3, progress=False)

"""A step that came to nothing, and what is only tried, leave nothing behind in a run."""

import json
import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from children import pair
from faulted import Dots, Mixer, Poisoned, calm, go, normed, numbers, same, tiny
from torch import nn

from sfumato.diffusion import Muon, train
from sfumato.diffusion.buckets import Buckets
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.ema import Averages
from sfumato.diffusion.feed import seed_everything
from sfumato.diffusion.launch import Processes
from sfumato.diffusion.memory_probe import out_of_memory
from sfumato.diffusion.update import Update
from sfumato.schedules import BetaTable, Eps, LossSecondMoment, MinSNR, Stream
from sfumato.schedules.noise import integers


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


def test_the_rate_of_the_average_is_that_of_its_first_steps():
    # (1 + step) / (10 + step) is kept of the average: 2/11, then 3/12, ... until that is more than the decay
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    averages, wanted = Averages(module, 0.4), 0.0
    for step, kept in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13), (4, 5 / 14), (5, 0.4), (6, 0.4)):
        nn.init.constant_(module.weight, float(step))
        averages.update(module, step)
        wanted = kept * wanted + (1 - kept) * step
        assert float(averages.tensors()["ema"]["weight"]) == pytest.approx(wanted, rel=1e-6)


def test_processes_that_find_other_checkpoints_do_not_begin(tmp_path):
    """As on two machines whose run folders are not one."""
    recipe = {"backbone": calm(), "save_every": 2, "steps": 4}
    for rank in (0, 1):
        train(tiny(**recipe), tmp_path / str(rank), progress=False)
    shutil.rmtree(tmp_path / "1" / "checkpoints" / "step-000000004")

    def resumed(rank):
        try:
            go(tmp_path / str(rank), **{**recipe, "steps": 6})
        except ValueError as error:
            return 0 if "the newest checkpoint of process 1 is not that of process 0" in str(error) else 3
        return 4

    assert [child.ended() for child in pair(resumed, tmp_path / "log")] == [0, 0]


def test_the_updates_left_out_in_a_row_are_counted_anew_after_one_that_was_made(tmp_path):
    # one batch of three holds sample 3; of those of two epochs that meet, none were both left out
    train(tiny(data=Poisoned(bad=(3,)), nonfinite="skip", nonfinite_limit=1, steps=12), tmp_path, progress=False)
    found = newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.state["skipped"][0] == 4


def test_the_rate_of_a_group_is_its_share_of_the_recipes(tmp_path, monkeypatch):
    plain, seen = Update.__call__, []

    def update(self, step):
        made = plain(self, step)
        seen.append([group["lr"] for group in self.optimizer.param_groups])
        return made

    monkeypatch.setattr(Update, "__call__", update)
    train(tiny(optimizer=Muon(lr_scale=3.0, skip=("last",)), steps=3), tmp_path, progress=False)
    rates = [x["lr"] for x in lines(tmp_path)]
    assert seen == [[3.0 * rate, rate] for rate in rates]


def test_updates_that_were_left_out_are_counted_over_a_resume(tmp_path):
    recipe = tiny(data=Poisoned(bad=(3,)), nonfinite="skip")
    for steps in (6, 12):
        train(replace(recipe, steps=steps), tmp_path, resume=True, progress=False)
    assert lines(tmp_path)[-1]["skipped"] == 4


def test_a_density_is_told_losses_in_the_order_of_places(tmp_path, monkeypatch):
    """Levels are stratified over places, so they fall or rise with them, however the batch is parted."""
    told, plain = [], LossSecondMoment.learn

    def learn(self, known, t, losses):
        told.append(t.tolist())
        return plain(self, known, t, losses)

    monkeypatch.setattr(LossSecondMoment, "learn", learn)
    for size in (None, 2, 3):
        path = {"schedule": BetaTable("cosine", 8), "row": Eps(), "weighting": MinSNR()}
        train(
            tiny(steps=2, batch=8, micro_batch=size, density=LossSecondMoment(), **path),
            tmp_path / str(size),
            progress=False,
        )
    assert told == told[:2] * 3
    assert all(len(set(t)) > 2 and t in (sorted(t), sorted(t, reverse=True)) for t in told)


def test_every_address_leaves_the_global_generators_elsewhere():
    def drawn(*address):
        seed_everything(*address)
        return float(torch.rand(())), random.random(), float(np.random.rand())  # noqa: NPY002

    places = [
        (0, 0, 0, Stream.DATA),
        (1, 0, 0, Stream.DATA),
        (0, 1, 0, Stream.DATA),
        (0, 0, 1, Stream.DATA),
        (0, 0, 0, Stream.TRAIN_NETWORK),
    ]
    found = [drawn(*place) for place in places]
    assert all(len(set(column)) == len(places) for column in zip(*found, strict=True))
    assert [drawn(*place) for place in places] == found


def test_a_seed_is_that_of_manual_seed():
    """Also where it is not told to devices that are not there."""
    for step, first in ((0, 0), (3, 5)):
        a, b = integers(torch.tensor([7]), first, step, 2, Stream.TRAIN_NETWORK)[0].tolist()
        torch.manual_seed(a << 31 ^ b)
        expected = torch.rand(3)
        seed_everything(7, step, first, Stream.TRAIN_NETWORK)
        assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_gradients_are_clipped_together_or_not_at_all(limit):
    parameters = [torch.nn.Parameter(torch.ones(n)) for n in (3, 1, 2)]
    for parameter in parameters[:2]:
        parameter.grad = 2 * torch.ones_like(parameter)
    norm = Processes("fp32").clip(parameters, limit)
    assert float(norm) == 4.0
    left = 2.0 if limit is None else 0.25
    assert all(torch.allclose(p.grad, torch.full_like(p, left)) for p in parameters[:2])
    assert parameters[2].grad is None

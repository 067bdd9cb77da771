"""A step that came to nothing, and what is only tried, leave nothing behind: neither in a run nor in what it tells."""

import json
import random
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from children import pair
from faulted import Dots, Mixer, Poisoned, calm, go, numbers, same, tiny
from torch import nn

from sfumato.diffusion import Muon, Regression, train
from sfumato.diffusion.buckets import Buckets
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.ema import Averages
from sfumato.diffusion.excluding import Excluding
from sfumato.diffusion.feed import seed_everything
from sfumato.diffusion.launch import Processes
from sfumato.diffusion.local_norm import square_norm
from sfumato.diffusion.memory_probe import out_of_memory
from sfumato.diffusion.prepared import trained_on
from sfumato.diffusion.replay import replay
from sfumato.diffusion.update import Update
from sfumato.diffusion.validation import Validation
from sfumato.schedules import BetaTable, Eps, LossSecondMoment, MinSNR, RectifiedFlow, Stream, Uniform


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
    recipe = normed(save_every=3, log_every=8, steps=16, micro_batch=2)
    train(recipe, tmp_path / "whole", progress=False)
    plain = Update.__call__

    def update(self, step):
        if step == 11:
            raise OSError("gone")
        return plain(self, step)

    monkeypatch.setattr(Update, "__call__", update)
    with pytest.raises(OSError, match="gone"):
        train(recipe, tmp_path / "broken", progress=False)
    monkeypatch.undo()
    assert numbers(tmp_path / "broken")[0] == 11
    train(recipe, tmp_path / "broken", resume=True, progress=False)
    timed = {"images_per_second", "memory_mib"}
    whole, broken = (
        [{k: v for k, v in x.items() if k not in timed} for x in lines(tmp_path / n)] for n in ("whole", "broken")
    )
    assert [x["step"] for x in whole] == [8, 16]
    assert sum(whole[0]["buckets"]["count"]) == 8 * recipe.batch
    assert whole == broken
    for name in ("noise_scale", "growth", "line"):
        a, b = (numbers_of(tmp_path / n, name) for n in ("whole", "broken"))
        assert any(bool(v.any()) for v in a.values()) == (name != "line")  # which has just been written
        assert all(torch.equal(a[k], b[k]) for k in a)


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


@dataclass(frozen=True)
class Halved:
    """A transform of the gradients."""

    elementwise = True

    def __call__(self, gradients, step, parameters):
        for gradient in gradients.values():
            gradient.mul_(0.5)


def test_the_noise_of_a_batch_does_not_depend_on_what_transforms_make_of_gradients(tmp_path):
    for name, transforms in (("plain", ()), ("halved", (Halved(),))):
        train(tiny(steps=1, micro_batch=2, transforms=transforms), tmp_path / name, progress=False)
    plain, halved = (newest(tmp_path / name / "checkpoints") for name in ("plain", "halved"))
    assert plain is not None
    assert halved is not None
    known = plain.tensors("noise_scale")["known"]
    assert bool(known[:2].any())
    # the one is the norm that was clipped, the other one was taken before: equal but for the order of sums
    assert torch.allclose(known, halved.tensors("noise_scale")["known"], rtol=1e-5)


class Half:
    """Processes of fp16, with a scaler on the host."""

    def __init__(self) -> None:
        self._accelerator = self
        self.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)

    scaling, leave_out = Processes.scaler, Processes.leave_out


def stepped(half, module, optimizer, *, make=True, x=1.0):
    optimizer.zero_grad()
    half.scaler.scale(module(torch.tensor([[x]])).sum()).backward()
    half.scaler.unscale_(optimizer)
    if not make:
        half.leave_out()
        return
    half.scaler.step(optimizer)
    half.scaler.update()


def test_the_scaler_of_half_precision_goes_on_where_it_was():
    module = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    first, then = Half(), Half()
    stepped(first, module, optimizer)
    then.scaling = json.loads(json.dumps(first.scaling))
    stepped(then, module, optimizer)
    assert (first.scaling["scale"], then.scaling["scale"]) == (8.0, 16.0)


def test_an_update_that_is_left_out_of_half_precision_lets_the_next_one_be_made():
    module = nn.Linear(1, 1)
    optimizer, half = torch.optim.SGD(module.parameters(), 0.1), Half()
    stepped(half, module, optimizer, make=False, x=float("nan"))
    before = module.weight.detach().clone()
    stepped(half, module, optimizer)
    assert half.scaling["scale"] == 4.0  # halved by what was not finite, doubled by what was
    assert not torch.equal(module.weight, before)


def test_a_line_of_updates_that_were_all_left_out_has_no_loss(tmp_path):
    train(tiny(data=Poisoned(bad=tuple(range(12))), nonfinite="skip", steps=2), tmp_path, progress=False)
    written = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in written
    assert [x["skipped"] for x in lines(tmp_path)] == [1, 2]
    assert not any({"loss", "edm_loss", "gradient_norm"} & x.keys() for x in lines(tmp_path))


@dataclass(frozen=True)
class Torn(Dots):
    """One of its samples can't be read."""

    def problem(self, index):
        return "torn" if index == 5 else None


def test_what_was_left_out_is_not_when_a_resume_does_not_allow_it(tmp_path):
    train(tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2, steps=2), tmp_path, progress=False)
    with pytest.raises(ValueError, match="1 of 12 samples can't be read"):
        train(tiny(data=Torn(), steps=3), tmp_path, resume=True, progress=False)


@pytest.mark.parametrize(
    "known", [{"std": 0.0}, {"std": float("nan")}, {"bad": {"12": "out of range"}}, {"bad": {"-1": "no index"}}]
)
def test_a_report_on_the_data_that_can_not_be_is_made_again(tmp_path, known):
    recipe = tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2)
    train(replace(recipe, steps=2), tmp_path, progress=False)
    report = tmp_path / "data.json"
    whole = json.loads(report.read_text())
    edited = {**whole, **{k: v for k, v in known.items() if k == "std"}}
    edited["scan"] = {**whole["scan"], **{k: v for k, v in known.items() if k == "bad"}}
    report.write_text(json.dumps(edited))
    train(recipe, tmp_path, resume=True, progress=False)
    assert json.loads(report.read_text()) == whole


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


def test_the_noise_scale_compares_the_first_micro_batch_with_the_global_batch(tmp_path, monkeypatch):
    """Ten samples in micro-batches of 4, 3 and 3."""
    own: list[float] = []

    def seen(parameters, *factor):
        parameters = list(parameters)
        own.append(sum(float((p.grad.double() * 10 / 4).square().sum()) for p in parameters if p.grad is not None))
        return square_norm(parameters, *factor)

    monkeypatch.setattr("sfumato.diffusion.update.square_norm", seen)
    train(tiny(batch=10, micro_batch=4, steps=1), tmp_path, progress=False)
    big = lines(tmp_path)[0]["gradient_norm"] ** 2
    known = numbers_of(tmp_path, "noise_scale")["known"] / 0.01  # of one step
    assert float(known[0]) == pytest.approx((10 * big - 4 * own[0]) / 6, rel=1e-4)
    assert float(known[1]) == pytest.approx((own[0] - big) / (1 / 4 - 1 / 10), rel=1e-4)


def numbers_of(folder, name):
    found = newest(folder / "checkpoints")
    assert found is not None
    return found.tensors(name)


def test_samples_of_the_validation_are_read_before_the_first_step(tmp_path):
    recipe = tiny(validation=Torn(), validate_every=3, validation_samples=12, steps=3)
    with pytest.raises(ValueError, match=r"1 of 12 samples of the validation can't be read.*sample 5: torn"):
        train(recipe, tmp_path / "stop", progress=False)
    assert not (tmp_path / "stop").exists()
    train(replace(recipe, corrupt="skip"), tmp_path / "skip", progress=False)
    assert [x["validation"]["loss"] > 0 for x in lines(tmp_path / "skip") if "validation" in x] == [True]


def test_what_a_run_has_left_out_is_left_out_of_what_is_measured_on_its_data(tmp_path):
    recipe = tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2, steps=1)
    train(recipe, tmp_path, progress=False)
    found = trained_on(tmp_path, Torn())
    assert len(found) == 11
    assert torch.equal(found.batch(torch.tensor([4, 5])).x[:, 0, 0, 0] * 12, torch.tensor([4.0, 6.0]))
    assert trained_on(tmp_path / "nowhere", Torn()) == Torn()
    assert trained_on(tmp_path, Torn(7)) == Torn(7)


def test_the_updates_left_out_in_a_row_are_counted_anew_after_one_that_was_made(tmp_path):
    # one batch of three holds sample 3; of those of two epochs that meet, none were both left out
    train(tiny(data=Poisoned(bad=(3,)), nonfinite="skip", nonfinite_limit=1, steps=12), tmp_path, progress=False)
    found = newest(tmp_path / "checkpoints")
    assert found is not None
    assert found.state["skipped"][0] == 4


def test_a_validation_asks_at_the_middle_of_each_part_of_the_density():
    asked = []

    class Seen(Regression):
        def __call__(self, denoiser, head, weighting, seen):
            asked.append(torch.as_tensor(seen.level.t))
            return super().__call__(denoiser, head, weighting, seen)

    schedule, density = RectifiedFlow(), Uniform()
    validation = Validation(Dots(), schedule, density, MinSNR(), Seen(), 3, 0.5, count=12, batch=5)
    validation.partial(tiny().denoiser())
    wanted = density((torch.arange(12, dtype=torch.float64) + 0.5) / 12, schedule).level.t
    assert torch.allclose(torch.cat(asked).sort().values, torch.as_tensor(wanted).sort().values, atol=1e-6)


def test_data_without_one_sample_are_not_data_without_another():
    texts = {Excluding(Dots(), bad).fingerprint for bad in ([], [1], [2], [1, 2])}
    assert len(texts | {Dots().fingerprint}) == 5


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


def test_a_damaged_log_does_not_keep_a_run_from_going_on(tmp_path):
    go(tmp_path, steps=6)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(before + b"\x00\xff\x00\nnull\n[1]\n{}\n")
    go(tmp_path, steps=6)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


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


@dataclass(frozen=True)
class TornElsewhere(Torn):
    """Data of the same number that have changed."""

    fingerprint = "dots, changed"

    def problem(self, index):
        return "torn" if index == 7 else None


def test_data_that_have_changed_are_read_again(tmp_path):
    train(tiny(data=Torn(), corrupt="skip", corrupt_limit=0.2, steps=2), tmp_path, progress=False)
    with pytest.raises(ValueError, match="can't be resumed under another recipe: data was"):
        train(tiny(data=TornElsewhere(), corrupt="skip", corrupt_limit=0.2), tmp_path, resume=True, progress=False)
    assert trained_on(tmp_path, Torn()) == Excluding(Torn(), [5])
    assert trained_on(tmp_path, TornElsewhere()) == TornElsewhere()


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

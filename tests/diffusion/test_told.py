"""What a run tells is what happened in it, though checkpoints, transforms and damaged lines come between."""

import json
from dataclasses import dataclass

import pytest
import torch
from faulted import Dots, Poisoned, go, normed, numbers, tiny

from sfumato.diffusion import Regression, train
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.local_norm import square_norm
from sfumato.diffusion.replay import replay
from sfumato.diffusion.update import Update
from sfumato.diffusion.validation import Validation
from sfumato.schedules import MinSNR, RectifiedFlow, Uniform


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


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


def test_a_line_of_updates_that_were_all_left_out_has_no_loss(tmp_path):
    train(tiny(data=Poisoned(bad=tuple(range(12))), nonfinite="skip", steps=2), tmp_path, progress=False)
    written = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in written
    assert [x["skipped"] for x in lines(tmp_path)] == [1, 2]
    assert not any({"loss", "edm_loss", "gradient_norm"} & x.keys() for x in lines(tmp_path))


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


def test_a_damaged_log_does_not_keep_a_run_from_going_on(tmp_path):
    go(tmp_path, steps=6)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    (tmp_path / "metrics.jsonl").write_bytes(before + b"\x00\xff\x00\nnull\n[1]\n{}\n")
    go(tmp_path, steps=6)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before

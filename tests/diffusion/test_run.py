"""What a recipe says of a run is done in it: data, averages, validation, gradients, memory; and it can be made again."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from faulted import Dots, Mixer, go, tiny
from PIL import Image

from sfumato.diffusion import (
    ClipValue,
    Digits,
    DiT,
    EDMAugment,
    Flip,
    ImageFolder,
    InverseSqrt,
    Split,
    UNet,
    load,
    train,
)  # fmt: skip
from sfumato.diffusion.checkpoint import newest
from sfumato.diffusion.data import Batch
from sfumato.diffusion.plan import check_recipe
from sfumato.diffusion.rehearsal import rehearse
from sfumato.diffusion.replay import replay
from sfumato.guidance import Plain


def numbers(folder):
    found = newest(folder / "checkpoints")
    return {f"{name}/{key}": value for name in found.names for key, value in found.tensors(name).items()}


def same(a, b, *but):
    """Whether two runs are equal to the last bit, but for some groups of tensors."""
    keys = {k for k in a if k.split("/")[0] not in but}
    return keys == {k for k in b if k.split("/")[0] not in but} and all(
        torch.equal(a[k].nan_to_num(-7.0), b[k].nan_to_num(-7.0)) for k in keys
    )


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_steps_made_again_are_the_steps_that_were_made(tmp_path, monkeypatch):
    go(tmp_path, save_every=5)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    short, whole = (replay(tiny(save_every=5), tmp_path, k, progress=False) for k in (1, 50))
    assert (short.first, short.last, short.whole, short.differences) == (10, 10, False, ())
    assert (whole.first, whole.last, whole.whole, whole.differences) == (10, 11, True, ())
    assert "equal to the last bit" in whole.words()
    assert {
        p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"
    }.items() <= before.items()
    plain = Dots.batch
    monkeypatch.setattr(Dots, "batch", lambda self, index: Batch(plain(self, index).x + 1e-2, index % 3))
    other = replay(tiny(save_every=5), tmp_path, 2, progress=False)
    assert "the loss of step 10 was" in other.differences[0]
    assert any("tensors of model" in words for words in other.differences)
    assert "are not the steps that were made" in other.words()


def test_a_replay_needs_two_checkpoints(tmp_path):
    go(tmp_path, save_every=0)
    with pytest.raises(ValueError, match=r"the one that was saved before it; it holds those of steps 12\. Set keep: 2"):
        replay(tiny(save_every=0), tmp_path, 3, progress=False)
    with pytest.raises(ValueError, match="holds no run"):
        replay(tiny(), tmp_path / "nothing", 3, progress=False)


def test_a_rehearsal_is_the_first_step_and_writes_nothing(tmp_path):
    recipe = tiny(steps=1)
    found = rehearse(recipe, tmp_path / "runs" / "new")
    assert not list(tmp_path.iterdir())
    train(recipe, tmp_path, progress=False)
    first = lines(tmp_path)[0]
    assert (found.loss, found.norm) == (first["loss"], first["gradient_norm"])
    assert found.micro_batch == 4
    assert found.checkpoint > 4 * sum(p.numel() for p in recipe.backbone.parameters())


class Hungry(Mixer):
    """More than two samples at once do not fit."""

    def forward(self, x, time, labels=None):
        if len(x) > 2 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return super().forward(x, time, labels)


def test_what_does_not_fit_is_made_in_smaller_micro_batches(tmp_path):
    """The global batch stays as it is, and so does what is learned."""
    torch.manual_seed(0)
    train(tiny(backbone=Hungry(0.0), micro_batch="auto"), tmp_path / "auto", progress=False)
    torch.manual_seed(0)
    train(tiny(backbone=Mixer(0.0), micro_batch=2), tmp_path / "two", progress=False)
    assert same(numbers(tmp_path / "auto"), numbers(tmp_path / "two"))
    with pytest.raises(MemoryError, match=r"step 0: out of memory; .* Set micro_batch below 4 \(the batch of 4 stays"):
        train(tiny(backbone=Hungry(0.0)), tmp_path / "none", progress=False)


def test_the_noise_scale_is_measured_where_there_are_two_batch_sizes(tmp_path):
    go(tmp_path / "one")
    go(tmp_path / "two", micro_batch=2)
    known = numbers(tmp_path / "two")["noise_scale/known"]
    assert not numbers(tmp_path / "one")["noise_scale/known"].any()
    assert float(known[5]) == pytest.approx(1 - 0.99**12)  # the weight of twelve steps
    # |G|^2 and tr(Sigma) are such that a batch of 4 has the mean squared norm that was seen
    gradient, noise = float(known[0] / known[5]), float(known[1] / known[5])
    seen = [line["gradient_norm"] ** 2 for line in lines(tmp_path / "two")]
    weights = [0.01 * 0.99 ** (11 - i) for i in range(12)]
    assert gradient + noise / 4 == pytest.approx(np.dot(weights, seen) / sum(weights), rel=1e-5)


@dataclass(frozen=True)
class Spread(Dots):
    """Samples with a spread of their own."""

    def batch(self, index):
        x = torch.zeros(len(index), 1, 2, 2)
        return Batch(x, index % 3, torch.full_like(x, 0.5))


def test_data_with_a_spread_are_drawn_by_address(tmp_path, monkeypatch):
    """Standard normals times the spread, others in each step, the same in a resumed run and in micro-batches."""
    from sfumato.diffusion import update

    shown = []
    plain = update.Noised
    monkeypatch.setattr(update, "Noised", lambda x0, *rest: shown.append(x0.clone()) or plain(x0, *rest))
    go(tmp_path / "whole", data=Spread(), steps=40)
    all_at_once = torch.cat(shown)
    assert float(all_at_once.std()) == pytest.approx(0.5, rel=0.05)
    assert len(all_at_once.unique()) == all_at_once.numel()
    shown.clear()
    go(tmp_path / "two", data=Spread(), steps=40, micro_batch=2)
    assert torch.equal(
        torch.cat([torch.stack([a, b], 1).flatten(0, 1) for a, b in zip(shown[::2], shown[1::2], strict=True)]),
        all_at_once,
    )
    with pytest.raises(ValueError, match=r"augment is Flip, but the data are latents with a spread"):
        go(tmp_path / "flipped", data=Spread(), augment=Flip())


@dataclass(frozen=True)
class Slopes(Dots):
    """Samples that are brighter on one side."""

    def batch(self, index):
        return Batch(torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]).expand(len(index), 1, 2, 2).clone(), index % 3)


def test_augmentation_is_part_of_the_run(tmp_path):
    """Half mirrored: another run than without; told numbers must be taken; resumed to the bit."""
    for name, augment in (("plain", None), ("flipped", Flip()), ("nothing", Flip(0.0))):
        go(tmp_path / name, data=Slopes(), augment=augment)
    assert not same(numbers(tmp_path / "plain"), numbers(tmp_path / "flipped"), "optimizer", "ema", "growth")
    assert same(numbers(tmp_path / "plain"), numbers(tmp_path / "nothing"))
    net = UNet(channels=1, size=8, num_classes=10, width=8, multipliers=(1,), blocks=1, attention=())
    with pytest.raises(ValueError, match=r"augment tells the network 9 numbers.*set backbone.augment_features: 9"):
        check_recipe(tiny(data=Digits(), backbone=net, augment=EDMAugment()))
    net = DiT(channels=1, size=8, num_classes=10, patch=4, width=8, depth=1, heads=2, augment_features=9)
    train(tiny(data=Digits(), backbone=net, augment=EDMAugment(0.5), steps=3), tmp_path / "told", progress=False)
    assert numbers(tmp_path / "told")["optimizer/told.weight/exp_avg"].any()


def test_validation_is_on_samples_that_are_held_out(tmp_path):
    recipe = tiny(data=Split(Dots(40), share=0.5), validate_every=6, validation_samples=8)
    train(recipe, tmp_path, progress=False)
    found = [line for line in lines(tmp_path) if "validation" in line]
    assert [line["step"] for line in found] == [6, 12]
    assert all(line["validation"]["edm_loss"] > 0 for line in found)
    quiet = train(replace(recipe, validate_every=0), tmp_path / "quiet", progress=False)
    assert same(numbers(tmp_path), numbers(tmp_path / "quiet"))  # looking changes nothing
    assert quiet is not None
    with pytest.raises(ValueError, match="nothing is held out of the data; set data: Split"):
        check_recipe(tiny(validate_every=1))


def test_broken_files_are_found_before_the_first_step(tmp_path):
    """Left out where the recipe says so, the same ones in a resumed run without reading everything again."""
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(photos / f"{i:02}.png")
    (photos / "07.png").write_bytes((photos / "07.png").read_bytes()[:40])
    (photos / "13.png").write_bytes(b"")
    more = {"data": ImageFolder(str(photos), size=2, channels=1), "backbone": Unlabelled(0.0)}
    with pytest.raises(ValueError, match=r"2 of 20 samples can't be read(.|\n)*07\.png"):
        go(tmp_path / "stop", **more)
    assert not (tmp_path / "stop").exists()
    more |= {"corrupt": "skip", "corrupt_limit": 0.1, "guidance": Plain()}
    with pytest.warns(UserWarning, match=r"2 of them bad \(10\.00%\)(.|\n)*they are left out"):
        go(tmp_path / "skip", **more)
    known = json.loads((tmp_path / "skip" / "data.json").read_text())
    assert sorted(known["scan"]["bad"]) == ["13", "7"]
    go(tmp_path / "skip", **more | {"steps": 12})  # no warning: nothing is read again
    with pytest.raises(ValueError, match=r"more than may be skipped \(5\.00%\)"):
        go(tmp_path / "few", **more | {"corrupt_limit": 0.05})
    (photos / "20.png").write_bytes((photos / "00.png").read_bytes())
    more["data"] = ImageFolder(str(photos), size=2, channels=1)
    with pytest.warns(UserWarning, match="left out"), pytest.raises(ValueError, match="files were added, removed or"):
        go(tmp_path / "skip", **more)


class Unlabelled(Mixer):
    num_classes = 0


def test_averages_of_several_lengths_and_their_snapshots(tmp_path):
    more = {"ema_lengths": (0.05, 0.1), "snapshot_every": 3, "snapshot_dtype": "float32"}
    go(tmp_path / "whole", **more)
    found = newest(tmp_path / "whole" / "checkpoints")
    assert {"ema", "ema-0.05", "ema-0.1"} <= set(found.names)
    assert len(list((tmp_path / "whole" / "snapshots").glob("step-*"))) == 4
    model = load(tmp_path / "whole", ema=0.05, allow=["faulted"])
    assert torch.equal(model.denoiser.backbone.first.weight, found.tensors("ema-0.05")["first.weight"])
    go(tmp_path / "none")
    assert same(numbers(tmp_path / "whole"), numbers(tmp_path / "none"), "ema-0.05", "ema-0.1")
    with pytest.raises(ValueError, match="ema_lengths is empty"):
        check_recipe(tiny(snapshot_every=3))


def test_gradients_are_transformed_before_they_are_measured_and_clipped(tmp_path):
    go(tmp_path, transforms=(ClipValue(1e-4),))
    count = sum(p.numel() for p in Mixer().parameters())
    assert all(0 < line["gradient_norm"] <= 1e-4 * count**0.5 for line in lines(tmp_path))
    with pytest.raises(ValueError, match="transforms look at gradients, which precision fp16 scales"):
        check_recipe(tiny(transforms=(ClipValue(1.0),), precision="fp16"))


def test_the_rate_is_a_part(tmp_path):
    go(tmp_path, rate=InverseSqrt(warmup=2, reference=4))
    assert [line["lr"] for line in lines(tmp_path)][:5] == pytest.approx([1e-3, 2e-3, 2e-3, 2e-3, 2e-3], rel=0.3)
    assert lines(tmp_path)[-1]["lr"] == InverseSqrt(warmup=2, reference=4)(2e-3, 11, 12) < 1.5e-3


def test_trackers_are_named(tmp_path):
    go(tmp_path / "none")
    assert not (tmp_path / "none" / "tensorboard").exists()
    with pytest.raises(ValueError, match=r"tracker is 'tensorbord'; allowed: .*tensorboard.*wandb.*, or null"):
        go(tmp_path / "other", tracker="tensorbord")
    with pytest.raises(ValueError, match=r"tracker is 'wandb', which is not installed: pip install wandb"):
        go(tmp_path / "other", tracker="wandb")


def test_a_recipe_serves_more_than_one_run(tmp_path):
    """Its network is copied: a second run begins where the first began."""
    recipe = tiny()
    train(recipe, tmp_path / "a", progress=False)
    train(recipe, tmp_path / "b", progress=False)
    assert same(numbers(tmp_path / "a"), numbers(tmp_path / "b"))

"""Which models are offered: what is none is refused at once and in words, without reading weights."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from faulted import tiny
from safetensors.torch import save_file

from sfumato.diffusion import train
from sfumato.tools.demo.find import entry_of, find_models, unplaced
from sfumato.tools.demo.glance import glance
from sfumato.tools.demo.shelf import Shelf


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """Checkpoints of steps 2 and 4; look at it, don't write in it."""
    folder = tmp_path_factory.mktemp("found") / "runs" / "dots"
    train(tiny(steps=4, save_every=2, keep=5), folder, progress=False)
    return folder


@pytest.fixture
def runs(a_run, tmp_path):
    shutil.copytree(a_run, tmp_path / "runs" / "dots")
    return tmp_path / "runs"


def changed(path, change, read=yaml.safe_load, write=yaml.safe_dump):
    found = read(path.read_text())
    change(found)
    path.write_text(write(found))


def state_of(run, change):
    """Change what the newest checkpoint says of itself, with its sizes."""
    folder = max((run / "checkpoints").iterdir())
    changed(folder / "state.json", change, json.loads, json.dumps)
    size = (folder / "state.json").stat().st_size
    changed(folder / "manifest.json", lambda m: m["files"]["state.json"].update(bytes=size), json.loads, json.dumps)


def test_a_run_is_offered_and_loads_as_load_does(a_run):
    entry = entry_of(a_run, allow=["faulted"])
    assert (entry.name, entry.run, entry.home) == ("dots", True, a_run)
    assert entry.command == f"{a_run} --allow faulted"
    assert entry.newest().step == 4
    assert entry.load().source["checkpoint"] == 4


def test_no_weights_are_read(a_run, monkeypatch):
    """The one function through which weights come would say so."""
    import sfumato.diffusion.checkpoint as checkpoint

    monkeypatch.setattr(checkpoint, "load_file", lambda path: pytest.fail("read"))
    entry_of(a_run, allow=["faulted"])
    find_models(a_run.parent, allow=["faulted"])


def test_the_command_has_the_options_that_are_not_as_always(runs):
    (runs / "dots").rename(runs / "a run")
    entry = entry_of(runs / "a run", ema=0.1, device="meta", allow=["faulted", "other"])
    assert entry.command == f"'{runs}/a run' --ema 0.1 --device meta --allow faulted --allow other"
    hidden = unplaced(entry)  # for a page that others see
    assert hidden.command == "'a run'"
    assert (hidden.name, hidden.home) == (entry.name, entry.home)
    assert entry_of(runs / "a run", ema=False, allow=["faulted"]).command.endswith("--ema false --allow faulted")


BROKEN = {
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints"), "holds no valid checkpoint; train it first"),
    "cut files": (
        lambda run: [os.truncate(p, 5) for p in run.rglob("model.safetensors")], "holds no valid checkpoint; train it first",
    ),
    "no YAML": (lambda run: (run / "config.yaml").write_text("a: [1"), "is not YAML"),
    "empty": (lambda run: (run / "config.yaml").write_text(""), "is empty"),
    "no model": (lambda run: changed(run / "config.yaml", lambda c: c.pop("backbone")), "lacks backbone"),
    "no picture": (lambda run: state_of(run, lambda s: s.update(shape=[2, 4])), r"of shape \(2, 4\), which are no pictures"),
    "latents": (
        lambda run: state_of(run, lambda s: s.update(shape=[4, 8, 8], latents={"number": 1})),
        "are latents; give the folder of their VAE by --vae",
    ),
    "no class of ours": (lambda run: None, "names classes of faulted; say --allow for packages that you trust"),
}  # fmt: skip


@pytest.mark.parametrize("how", list(BROKEN))
def test_a_broken_run_is_refused_in_words_and_left_out(runs, how):
    shutil.copytree(runs / "dots", runs / "whole")
    changed(runs / "whole" / "config.yaml", lambda c: None)
    breaks, words = BROKEN[how]
    breaks(runs / "dots")
    allow = [] if how == "no class of ours" else ["faulted"]
    with pytest.raises(ValueError, match=words):
        entry_of(runs / "dots", allow=allow)
    if allow:
        with pytest.warns(UserWarning, match=words):
            assert [entry.name for entry in find_models(runs, allow=allow)] == ["whole"]


def test_the_newest_is_first_and_what_is_no_run_is_passed_over(runs):
    for name, when in (("older", 10**9), ("newer", 2 * 10**9)):
        shutil.copytree(runs / "dots", runs / name)
        for path in (runs / name).rglob("manifest.json"):
            os.utime(path, (when, when))
    (runs / "notes").mkdir()
    (runs / "cells").mkdir()
    assert [entry.name for entry in find_models(runs, allow=["faulted"])] == ["newer", "dots", "older"]
    assert find_models(runs / "nowhere") == []


def test_a_damaged_checkpoint_falls_back_to_the_one_before(runs):
    """Its size is right and its hash is not: seen when it is loaded, which takes the one before, with a warning."""
    file = runs / "dots" / "checkpoints" / "step-000000004" / "ema.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    shelf = Shelf(find_models(runs, allow=["faulted"]))
    with pytest.warns(UserWarning, match="skipped"):
        assert shelf.get("dots").model.source["checkpoint"] == 2
    assert shelf.ready("dots")  # and is not read again for every visitor


def test_a_new_checkpoint_is_another_version(runs):
    entry = entry_of(runs / "dots", allow=["faulted"])
    shelf = Shelf([entry])
    first = shelf.get("dots")
    assert shelf.get("dots") is first
    train(tiny(steps=6, save_every=2, keep=5), runs / "dots", resume=True, progress=False)
    assert not shelf.ready("dots")
    assert shelf.get("dots").model.source["checkpoint"] == 6
    assert first.version != shelf.get("dots").version
    assert glance(runs / "dots").step == 6


@pytest.mark.parametrize("place", ["nowhere", "empty", "weights.bin", "weights.safetensors", "unet", "pipe"])
def test_what_is_no_model_is_refused_at_once(tmp_path, place):
    (tmp_path / "empty").mkdir()
    (tmp_path / "weights.bin").write_bytes(b"x")
    save_file({"linear.weight": torch.zeros(2, 2)}, tmp_path / "weights.safetensors")
    for name, file, content in (
        ("unet", "config.json", {"_class_name": "UNet3DConditionModel"}),
        ("pipe", "model_index.json", {"_class_name": "CogVideoXPipeline"}),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text(json.dumps(content))
    words = {
        "nowhere": "is not a run folder", "empty": "is not a run folder", "weights.bin": "is a file; allowed",
        "weights.safetensors": "holds linear.weight, ..., which are no weights of DiT, ADM or EDM", "unet": "of UNet3DConditionModel",
        "pipe": "a CogVideoXPipeline is no pipeline",
    }  # fmt: skip
    with pytest.raises(ValueError, match=words[place]):
        entry_of(tmp_path / place)


def test_options_that_say_nothing_are_refused_at_once(a_run):
    with pytest.raises(ValueError, match="size is 64, which says nothing about a run"):
        entry_of(a_run, allow=["faulted"], size=64)
    with pytest.raises(ValueError, match="scheduler is 'nowhere', which says nothing about a run"):
        entry_of(a_run, allow=["faulted"], scheduler="nowhere")
    with pytest.raises(ValueError, match="vae is 'nowhere', which is no folder"):
        entry_of(a_run, allow=["faulted"], vae="nowhere")


def test_a_pipeline_of_diffusers_and_its_network(tmp_path):
    from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

    torch.manual_seed(0)
    net = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 8), norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDIMPipeline(net, DDIMScheduler()).save_pretrained(tmp_path / "pipe")
    shelf = Shelf([entry_of(tmp_path / "pipe"), entry_of(tmp_path / "pipe" / "unet", precision="bf16")])
    assert shelf.names == ["pipe", "unet"]
    assert [shelf.entry(name).run for name in shelf.names] == [False, False]
    assert shelf.entry("unet").command == f"{tmp_path}/pipe/unet --precision bf16"
    assert shelf.get("pipe").model.picture_shape == (1, 8, 8)
    (tmp_path / "pipe" / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(Path(__file__).read_bytes())
    with pytest.raises(ValueError, match="unet can't be loaded"):
        shelf.get("unet")
    assert shelf.ready("pipe")

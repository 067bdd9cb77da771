"""Damaged, mixed, older and newer checkpoints: named, passed over, and never half believed."""

import json
import random
import shutil
import warnings
from pathlib import Path

import pytest
from faulted import Mixer, OtherDots, go, numbers, same
from safetensors.torch import load_file

from sfumato.diffusion import LearnedUncertainty, load
from sfumato.diffusion.checkpoint import newest
from sfumato.schedules import LossSecondMoment
from sfumato.tools.cli import main

FORMATS = Path(__file__).parents[1] / "diffusion" / "formats"
FULL = {"objective": LearnedUncertainty(8), "density": LossSecondMoment(10), "keep": 2, "steps": 4}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run whose checkpoints hold every file there is."""
    folder = tmp_path_factory.mktemp("full") / "run"
    go(folder, **FULL)
    return folder


def files(run):
    return sorted(p.name for p in (run / "checkpoints" / "step-000000004").iterdir())


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def truncate(path, rng):
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def flip_one(path, rng):
    flip(path, rng.randrange(8 * path.stat().st_size))


HARM = {20: truncate, 21: flip_one, 22: lambda path, rng: path.unlink()}


@pytest.mark.parametrize(
    "number", [pytest.param(n, marks=pytest.mark.fault(n)) for n in HARM], ids=["truncated", "flipped", "deleted"]
)
def test_each_file_harmed(full, place, injected, number):
    """The one before is taken, with a warning that names the file or says what is wrong; where there is none before, it is refused."""
    rng, times = random.Random(number), 0
    assert {"head.safetensors", "head_optimizer.safetensors", "density.safetensors", "manifest.json"} < set(files(full))
    for name in files(full):
        for repeat in range(1 if number == 22 else 4):
            run = place / f"{name}-{repeat}"
            shutil.copytree(full, run)
            harmed = run / "checkpoints" / "step-000000004" / name
            HARM[number](harmed, rng)
            says = "step-000000004 is skipped: " + (r".*" if name == "manifest.json" else name)
            if name == "manifest.json" and (found := _whole(run)) is not None:  # a bit of the version's name, say
                assert found == _whole(full)
                continue
            with pytest.warns(UserWarning, match=says):
                assert newest(run / "checkpoints").step == 3
            times += 1
            shutil.rmtree(run / "checkpoints" / "step-000000003")
            with (
                pytest.warns(UserWarning, match=says),
                pytest.raises(ValueError, match=r"no checkpoint in .* is valid"),
            ):
                go(run, **FULL)
    run = place / files(full)[0]
    shutil.copytree(full, run)
    HARM[number](run / "checkpoints" / "step-000000004" / "ema.safetensors", rng)
    with pytest.warns(UserWarning, match="is skipped"):  # and the run goes on from there to the same end
        go(run, **FULL)
    assert same(numbers(run), numbers(full))
    injected(f"each file of a checkpoint {['truncated', 'with a flipped bit', 'deleted'][number - 20]}", times, 0)


def _whole(run):
    """What is read of the newest checkpoint, where it is the fourth."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = newest(run / "checkpoints")
    if found.step != 4:
        return None
    return (
        found.state,
        found.names,
        {n: {k: v.numpy().tobytes() for k, v in found.tensors(n).items()} for n in found.names},
    )


@pytest.mark.fault(21)
def test_a_flipped_bit_of_the_config(full, place, injected):
    """Weights are not read as what they were not trained as; a resume names the key, or writes the config anew."""
    shutil.copytree(full, place / "run")
    config = place / "run" / "config.yaml"
    good = config.read_text()
    for key, value, flipped in (("data_std", "0.75", "0.35"), ("dropout", "0.1", "0.3"), ("scale", "1000.0", "3000.0")):
        assert f"{key}: {value}" in good
        config.write_text(good.replace(f"{key}: {value}", f"{key}: {flipped}"))
        with pytest.raises(ValueError, match=rf"config\.yaml is not what .*{key} was {value}, is {flipped}"):
            load(place / "run", allow=["faulted"])
    config.write_text(good.replace("lr: 0.002", "lr: 0.003"))
    assert main(["train", str(place / "run"), "--resume", "--allow", "faulted"]) == 2
    go(place / "run", **FULL)
    assert config.read_text() == good
    injected("a digit of the config flipped", 4, 0)


@pytest.mark.fault(21)
@pytest.mark.slow
def test_every_bit_of_a_manifest(full, place, injected):
    """It has no hash of its own: each bit is either noticed, or what is read is the same without it."""
    shutil.copytree(full, place / "run")
    path, expected, noticed = place / "run" / "checkpoints" / "step-000000004" / "manifest.json", _whole(full), 0
    bits = 8 * path.stat().st_size
    for bit in range(bits):
        flip(path, bit)
        found = _whole(place / "run")
        noticed += found is None
        assert found in (None, expected)
        flip(path, bit)
    injected(f"every bit of a manifest flipped, {noticed} noticed, the others without a meaning", bits, 0)


@pytest.mark.fault(23)
def test_a_file_of_another_step(full, place, injected):
    """Alone, or with the manifest that it had."""
    for number, name in enumerate(files(full)):
        run = place / str(number)
        shutil.copytree(full, run)
        here, other = (run / "checkpoints" / f"step-00000000{step}" for step in (4, 3))
        if (here / name).read_bytes() == (other / name).read_bytes():
            continue
        shutil.copy(other / name, here / name)
        with pytest.warns(UserWarning, match="step-000000004 is skipped"):
            assert newest(run / "checkpoints").step == 3
        if name != "manifest.json":
            shutil.copy(other / "manifest.json", here / "manifest.json")
            with pytest.warns(UserWarning, match="step-000000004 is skipped"):
                assert newest(run / "checkpoints").step == 3
    injected("files of another step in a checkpoint", 2 * len(files(full)), 0)


@pytest.mark.fault(24)
def test_format_1_goes_on(place, injected):
    """The weights are those that the version which wrote it reached."""
    run = place / "run"
    shutil.copytree(FORMATS / "1", run)
    reached = load_file(run / "model-at-8.safetensors")
    assert main(["train", str(run), "--resume"]) == 0
    step, found = numbers(run)
    assert step == 8
    assert max(float((found[f"model/{k}"] - v).abs().max()) for k, v in reached.items()) < 1e-6
    injected("a checkpoint of format 1 is gone on with", 1, 0)


@pytest.mark.fault(25)
def test_a_newer_format(full, place, injected, capsys):
    """Named, with the version to install, and by the command line in a line; never read as if it were ours."""
    shutil.copytree(full, place / "run")
    for path in (place / "run" / "checkpoints").glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        path.write_text(json.dumps({**manifest, "format": manifest["format"] + 1, "written_by": "sfumato 9.9"}))
    with (
        pytest.warns(
            UserWarning, match=r"reads formats up to \d+; it was written by sfumato 9\.9: install that, or newer"
        ),
        pytest.raises(ValueError, match="is valid"),
    ):
        go(place / "run", **FULL)
    injected("a checkpoint of a later format", 2, 0)


@pytest.mark.fault(26)
def test_another_recipe(full, injected):
    """Each field that differs is named with both values; what may change does not count."""
    other = {
        **FULL,
        "lr": 1.0,
        "batch": 8,
        "density": LossSecondMoment(10, history=7),
        "backbone": Mixer(0.5),
        "keep": 7,
    }
    with pytest.raises(ValueError, match="under another recipe") as caught:
        go(full, **other)
    for words in (
        "lr was 0.002, is 1.0",
        "batch was 4, is 8",
        "density.history was 10, is 7",
        "backbone.dropout was 0.1, is 0.5",
    ):
        assert words in str(caught.value)
    assert "keep" not in str(caught.value).split(": ", 1)[1]
    with pytest.raises(ValueError, match=r"data was faulted\.Dots, is faulted\.OtherDots"):
        go(full, **{**FULL, "data": OtherDots()})
    injected("a resume under another recipe", 2, 0)

"""`sfumato ema`, and sampling from the averages that it makes, as their user meets them."""

import json
import re
import shlex
import warnings

import pytest
import torch
import yaml
from modelled import network
from PIL import Image
from safetensors.torch import load_file, save_file

from sfumato.diffusion import Digits, LogSNRClock, Recipe, checkpoint, fingerprint, load, snapshots
from sfumato.diffusion.averaged import kept_by
from sfumato.diffusion.ema import Averages
from sfumato.diffusion.images import read_settings
from sfumato.diffusion.profiles import Power
from sfumato.diffusion.whole_file import file_hash
from sfumato.schedules import EDM, RectifiedFlow
from sfumato.tools.cli import main
from sfumato.tools.ema import lengths_of, panels_of

STEPS, EVERY = 240, 20


def trained(folder, steps=STEPS, every=EVERY, lengths=(0.05, 0.1)):
    """A run folder whose network took a random walk, as the trainer would leave it; returns the path of one weight."""
    net = network(0)
    recipe = Recipe(
        data=Digits(), backbone=net, schedule=RectifiedFlow(), row=EDM(0.75), clock=LogSNRClock(), sampling_steps=3
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe.describe(), sort_keys=False))
    averages, g, path = Averages(net, 0.9, lengths), torch.Generator().manual_seed(0), []
    watched = next(k for k, v in net.named_parameters() if v.ndim == 4)
    state = {"shape": [1, 8, 8], "num_classes": 10, "recipe": recipe.describe(), "data": recipe.data.fingerprint}
    for step in range(1, steps + 1):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.003 * torch.randn(p.shape, generator=g))
        averages.update(net, step)
        path.append(net.get_parameter(watched).detach().double().clone())
        if every and step % every == 0:
            snapshots.save(folder / "snapshots", step, averages)
        if step in (steps // 2, steps):
            checkpoint.save(folder / "checkpoints", step, {"model": net.state_dict(), **averages.tensors()}, state, 5)
    return watched, torch.stack(path), averages


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "walked"
    return folder, *trained(folder)


@pytest.fixture
def fresh(a_run):
    """The run without what was made of it."""
    folder = a_run[0]
    for made in (folder / "averages").glob("*"):
        made.unlink()
    return a_run


def printed(capsys, *argv):
    capsys.readouterr()
    assert main(list(map(str, argv))) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def fails(capsys, *argv):
    capsys.readouterr()
    assert main(list(map(str, argv))) == 2
    return capsys.readouterr().err


def test_what_is_made_is_the_average_and_the_printed_command_samples_from_it(fresh, capsys, tmp_path):
    folder, watched, path, _ = fresh
    out = printed(capsys, "ema", folder, "--length", "0.12")
    file = folder / "averages" / "length-0.120.safetensors"
    truth = torch.einsum("t,t...->...", Power(0.12).weights(STEPS), path)
    made, off = load_file(file)[watched].double(), float((path[-1] - truth).norm())
    assert float((made - truth).norm()) < 0.02 * off
    note = json.loads(file.with_suffix(".json").read_text())
    assert (note["length"], note["step"], len(note["of"])) == (0.12, STEPS, 24)
    assert sum(one["share"] for one in note["of"]) == pytest.approx(1.0, abs=1e-12)
    assert f"relative residual {note['residual']:.2g}" in out
    assert str(file) in out
    (command,) = re.findall(r"next: sfumato (sample .*)", out)
    printed(capsys, *shlex.split(command), "--seeds", "0-1", "--out", tmp_path / "pictures")
    picture = next(p for p in (tmp_path / "pictures").glob("*.png") if p.name != "sheet.png")
    assert read_settings(picture)["ema"] == 0.12
    assert read_settings(picture)["checkpoint"] == STEPS


def test_load_gives_the_average_that_was_asked_for(fresh, capsys):
    folder, watched, _, averages = fresh
    weights = {e: load(folder, ema=e).denoiser.backbone.get_parameter(watched) for e in (True, False, 0.1, 0.12)}
    assert torch.equal(weights[True], averages.tensors()["ema"][watched])
    assert torch.equal(weights[0.1], averages.tensors()["ema-0.1"][watched])  # as it was stored
    printed(capsys, "ema", folder, "--length", "0.12")
    assert torch.equal(load_file(folder / "averages" / "length-0.120.safetensors")[watched], weights[0.12])
    models = {e: load(folder, ema=e) for e in (True, False, 0.05, 0.1, 0.12)}
    assert len({fingerprint(model.denoiser) for model in models.values()}) == 5
    assert [models[e].source["ema"] for e in (True, False, 0.12)] == [True, False, 0.12]


def test_a_made_file_is_used_only_for_its_step_and_only_if_it_is_whole(fresh, capsys):
    folder, watched, *_ = fresh
    file = folder / "averages" / "length-0.120.safetensors"
    printed(capsys, "ema", folder, "--length", "0.12")
    note = json.loads(file.with_suffix(".json").read_text())
    fits = load(folder, ema=0.12).denoiser.backbone.get_parameter(watched).clone()
    tensors = {k: v.clone() for k, v in load_file(file).items()}
    save_file({k: v + 1 if v.is_floating_point() else v for k, v in tensors.items()}, file)
    with pytest.warns(UserWarning, match="is passed over: it is not the file that was made"):
        assert torch.equal(load(folder, ema=0.12).denoiser.backbone.get_parameter(watched), fits)
    # a file that is whole is believed, so it is read and not made anew
    note |= {"sha256": file_hash(file), "bytes": file.stat().st_size}
    file.with_suffix(".json").write_text(json.dumps(note))
    assert torch.equal(load(folder, ema=0.12).denoiser.backbone.get_parameter(watched), fits + 1)
    # of an earlier step of a run that went on
    file.with_suffix(".json").write_text(json.dumps({**note, "step": STEPS - 20}))
    assert torch.equal(load(folder, ema=0.12).denoiser.backbone.get_parameter(watched), fits)


def test_an_average_of_an_earlier_step(fresh, capsys):
    """Of a step with a checkpoint, and of one without."""
    folder, watched, path, _ = fresh
    for step in (120, 180):
        out = printed(capsys, "ema", folder, "--length", "0.08", "--step", step)
        assert f"load({str(folder)!r}, ema=0.08, step={step})" in out
        made = load_file(folder / "averages" / f"length-0.080-step-{step:09d}.safetensors")[watched]
        truth = torch.einsum("t,t...->...", Power(0.08).weights(step), path[:step])
        assert float((made - truth).norm()) < 0.02 * float((path[step - 1] - truth).norm())
        model = load(folder, ema=0.08, step=step)
        assert torch.equal(model.denoiser.backbone.get_parameter(watched), made)
        assert model.source["checkpoint"] == step
    with pytest.raises(ValueError, match="holds no checkpoint; allowed: 120, 240"):
        load(folder, step=180)


@torch.no_grad()
def test_the_newest_checkpoint_serves_where_no_snapshot_ends(tmp_path):
    """A run of 130 steps with a snapshot each 20: the average ends at 130, by what the checkpoint holds."""
    watched, path, _ = trained(tmp_path / "run", steps=130)
    kept = kept_by(tmp_path / "run")
    assert kept.step == 130
    assert [one.path.parent.name for one in kept.until(130)][-1] == "step-000000130"
    truth = torch.einsum("t,t...->...", Power(0.08).weights(130), path)
    made = load(tmp_path / "run", ema=0.08).denoiser.backbone.get_parameter(watched)
    assert float((made - truth).norm()) < 0.02 * float((path[-1] - truth).norm())


def test_the_figure_shows_what_was_wanted_and_made(fresh, capsys):
    folder = fresh[0]
    out = printed(capsys, "ema", folder, "--lengths", "0.04..0.2")
    assert out.count("relative residual") == 8
    with Image.open(folder / "averages" / "lengths.png") as figure:
        assert figure.width > 800
    kept = kept_by(folder)
    weights, residuals = panels_of([(length, kept.fit(length, STEPS)) for length in (0.05, 0.15)])
    wanted, made = weights["series"][2]["y"], weights["series"][3]["y"]
    assert sum(wanted) / STEPS == pytest.approx(1.0, abs=1e-9)
    assert sum(made) / STEPS == pytest.approx(1.0, abs=1e-9)
    assert sum((a - b) ** 2 for a, b in zip(wanted, made, strict=True)) < 1e-3 * sum(a * a for a in wanted)
    assert residuals["series"][0]["y"][0] == 1e-9  # stored, so nothing is missing
    assert lengths_of("0.02,0.1") == [0.02, 0.1]
    assert lengths_of("0.02..0.25")[::7] == pytest.approx([0.02, 0.25])


def test_a_length_out_of_reach_is_warned_of(fresh, capsys):
    capsys.readouterr()
    assert main(["ema", str(fresh[0]), "--length", "0.01"]) == 0
    shown = capsys.readouterr()
    assert "lies beyond what they support" in shown.err
    assert "relative residual 0." in shown.out


def test_a_damaged_snapshot_is_named_and_done_without(tmp_path, capsys):
    trained(tmp_path / "run", steps=100, every=10)
    (tmp_path / "run" / "snapshots" / "step-000000050" / "ema-0.05.safetensors").write_bytes(b"damaged")
    assert main(["ema", str(tmp_path / "run"), "--length", "0.08"]) == 0
    shown = capsys.readouterr()
    assert re.search(r"step-000000050 is left out: ema-0.05.safetensors is not the file", shown.err)
    assert "of 18 stored averages" in shown.out


def test_refusals_say_what_is_allowed(fresh, capsys, tmp_path):
    folder = fresh[0]
    assert "say what to make, as --length 0.12" in fails(capsys, "ema", folder)
    assert "length is 0.5; allowed: above 0 to 0.3" in fails(capsys, "ema", folder, "--length", "0.5")
    assert f"step is 300; allowed: 1 to {STEPS}" in fails(capsys, "ema", folder, "--length", "0.1", "--step", "300")
    assert "lengths is '0.1..x'; allowed: numbers" in fails(capsys, "ema", folder, "--lengths", "0.1..x")
    assert "is not a run folder" in fails(capsys, "ema", tmp_path, "--length", "0.1")
    assert "length is 0.7; allowed: above 0" in fails(capsys, "sample", folder, "--ema", "0.7")
    assert "ema is 'often'; allowed: true or false, or a number" in fails(capsys, "sample", folder, "--ema", "often")
    assert not (folder / "pictures").exists()
    trained(tmp_path / "plain", steps=4, every=0, lengths=())
    said = fails(capsys, "sample", tmp_path / "plain", "--ema", "0.1")
    assert "train with --ema_lengths [0.05,0.1] --snapshot_every N" in said
    assert "Stored in" in said and "lengths none (checkpoint 4)" in said and "sfumato ema" in said  # noqa: PT018
    trained(tmp_path / "alone", steps=8, every=0)  # a checkpoint's averages alone say little of others
    with pytest.warns(UserWarning, match="beyond what they support"):
        load(tmp_path / "alone", ema=0.2)


def test_ema_on_the_command_line_as_ever(fresh, capsys, tmp_path):
    """true and false mean what they did."""
    for said, name in (("true", "ema"), ("false", "model")):
        printed(capsys, "sample", fresh[0], "--ema", said, "--seeds", "0", "--out", tmp_path / said)
        (picture,) = (p for p in (tmp_path / said).glob("*.png") if p.name != "sheet.png")
        assert read_settings(picture)["ema"] is (said == "true"), name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(fresh[0]).source["ema"] is True

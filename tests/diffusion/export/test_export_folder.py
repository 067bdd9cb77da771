"""A run as a folder of diffusers: what lies there, what is refused, and the same pictures in a process that has no Sfumato."""

import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sfumato.diffusion import Digits, LogSNRClock, Recipe, UNet, load, train
from sfumato.diffusion.export import folder as module
from sfumato.diffusion.export import program, to_diffusers, to_program
from sfumato.diffusion.export.native import read_network, read_scheduler
from sfumato.diffusion.export.parity import sample_native
from sfumato.guidance import CFG
from sfumato.samplers import DPMSolverPP
from sfumato.schedules import EDM, Karras, RectifiedFlow, gaussian


def recipe(**rest):
    torch.manual_seed(0)
    net = UNet(1, 8, 10, 8, [1, 2], 1, [], groups=2, time_features=8)
    given = {
        "schedule": RectifiedFlow(),
        "clock": LogSNRClock(-0.125),
        "row": EDM(0.75),
        "sampler": DPMSolverPP(),
        "grid": Karras(0.05, 80.0, 3.0),
    }
    return Recipe(
        Digits(), net, **{**given, **rest}, steps=12, batch=16, lr=2e-2, ema=0.5, warmup=1, threads=1, sampling_steps=6, guidance=CFG(1.5),
        sample_every=0, save_every=0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def run(place):
    train(recipe(), place / "run")
    return place / "run"


@pytest.fixture(scope="module")
def done(run, place):
    return to_diffusers(run, place / "out")


def test_what_lies_there(run, done):
    assert sorted(p.name for p in done.folder.iterdir()) == [
        "README.md",
        "model_index.json",
        "scheduler",
        "sfumato.yaml",
        "unet",
    ]
    told = yaml.safe_load((done.folder / "sfumato.yaml").read_text())
    assert (told["num_classes"], told["null_class"], told["null_label"]) == (10, True, 10)
    assert told["parity"]["ema"]["network"] < 1e-5
    assert told["schedule"] == yaml.safe_load((run / "config.yaml").read_text())["schedule"]
    assert not list(done.folder.parent.glob(".*"))
    raw, averaged = (load_file(done.folder / "unet" / f"diffusion_pytorch_model{v}.safetensors") for v in ("", ".ema"))
    for ours, theirs in ((load(run, ema=False), raw), (load(run), averaged)):
        assert torch.equal(ours.denoiser.backbone.stem.weight, theirs["conv_in.weight"])
    assert not torch.equal(raw["conv_in.weight"], averaged["conv_in.weight"])


def test_the_other_variant_and_a_folder_that_is_empty(run, done, place):
    (place / "empty").mkdir()
    other = to_diffusers(run, place / "empty", variant="non_ema")
    files = {p.name: load_file(p)["conv_in.weight"] for p in (other.folder / "unet").glob("*.safetensors")}
    averaged = load_file(done.folder / "unet" / "diffusion_pytorch_model.ema.safetensors")["conv_in.weight"]
    assert torch.equal(files["diffusion_pytorch_model.safetensors"], averaged)
    assert set(files) == {"diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.non_ema.safetensors"}


PLAIN = """
import sys

class Nobody:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sfumato":
            raise ImportError(name)

sys.meta_path.insert(0, Nobody())
import numpy, torch
torch.set_num_threads(1)
{card}
made = sample(torch.from_numpy(numpy.load("noise.npy")), torch.arange(10))
numpy.save("made.npy", made.numpy())
piped = pipe(batch_size=10, class_labels=list(range(10)), num_inference_steps=6, generator=torch.manual_seed(0), output_type="pt").images
numpy.save("piped.npy", piped.numpy())
assert "sfumato" not in sys.modules
"""


def test_the_same_pictures_without_us(run, done, place):
    """The lines of the README that lies there, in a process where sfumato can't be imported, against `sample` with the run's guidance."""
    blocks = re.findall(r"```python\n(.*?)```", (done.folder / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    np.save(place / "noise.npy", gaussian(torch.arange(10), 0, -1, 0, (1, 8, 8)).numpy())
    code = PLAIN.format(card="\n".join(blocks))
    made = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=place, capture_output=True, text=True, check=False, timeout=300
    )
    assert made.returncode == 0, made.stderr
    ours = load(run).sample(range(10), list(range(10))).images
    theirs = torch.from_numpy(np.load(place / "made.npy"))
    assert float((ours - theirs).abs().max()) < 2e-3  # it begins with noise of sqrt(80^2 + 1)
    assert float(theirs.std()) > 0.1
    assert np.load(place / "piped.npy").shape == (10, 1, 8, 8)
    # from the same start the rest is rounding
    net, scheduler = (
        read_network(done.folder / "unet", "UNet2DModel", "ema"),
        read_scheduler(done.folder / "scheduler", done.process.kind),
    )
    noise = gaussian(torch.arange(10), 0, -1, 0, (1, 8, 8))
    unguided = load(run).sample(range(10), list(range(10)), guidance=CFG(1)).images
    made = sample_native(net, scheduler, 80.0 * noise, torch.arange(10), 6).clamp(-1, 1)
    assert float((unguided - made).abs().max()) < 1e-4


def test_what_is_there_stays(run, place):
    kept = place / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    for out in (kept, kept / "mine.txt"):
        with pytest.raises(ValueError, match="not an empty folder"):
            to_diffusers(run, out)
    with pytest.raises(ValueError, match="is there"):
        to_program(run, kept / "mine.txt")
    assert (kept / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("how", ["far", "full", "killed"])
def test_nothing_is_left_of_what_failed(run, tmp_path, monkeypatch, how):
    error = {"far": ValueError, "full": OSError, "killed": KeyboardInterrupt}[how]
    if how == "far":
        monkeypatch.setattr(module, "FAR", -1.0)
    elif how == "full":
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 10})())
    else:
        monkeypatch.setattr(module, "card", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(error):
        to_diffusers(run, tmp_path / "made" / "out")
    assert not list((tmp_path / "made").iterdir())


def test_what_the_run_has_not_is_refused_first(run, place):
    with pytest.raises(ValueError, match=r"average|length"):
        to_diffusers(run, place / "never", ema=0.1)
    with pytest.raises(ValueError, match="ema is false"):
        to_diffusers(run, place / "never", ema=False)
    with pytest.raises(ValueError, match="variant"):
        to_diffusers(run, place / "never", variant="best")
    assert not (place / "never").exists()


@pytest.mark.parametrize("how", ["none", "gone", "damaged"])
def test_a_run_without_its_average_is_refused(run, tmp_path, how):
    shutil.copytree(run, tmp_path / "run")
    (step,) = (tmp_path / "run" / "checkpoints").iterdir()
    average, manifest = step / "ema.safetensors", step / "manifest.json"
    if how == "damaged":
        average.write_bytes(average.read_bytes()[:-1] + b"!")
    else:
        average.unlink()
    if how == "none":  # as of a checkpoint that never had one
        said = json.loads(manifest.read_text())
        del said["files"]["ema.safetensors"]
        manifest.write_text(json.dumps(said))
    says = "holds no 'ema'; it has" if how == "none" else "holds no valid checkpoint"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=says):
            to_diffusers(tmp_path / "run", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_program(run, place):
    """Its answers are ours, at batches that were not traced."""
    made = to_program(run, place / "denoiser.pt2")
    assert made.apart < 1e-5
    model = load(run)
    program = torch.export.load(made.path).module()
    x, log_snr, labels = torch.randn(7, 1, 8, 8), torch.linspace(-5, 5, 7), torch.arange(7)
    x0, eps = program(x, log_snr, labels)
    with torch.no_grad():
        ours = model.denoiser(x, model.denoiser.schedule.at_log_snr(log_snr.double()), {"labels": labels})
    assert torch.allclose(x0, ours.x0, atol=1e-5)
    assert torch.allclose(eps, ours.eps, atol=1e-5)


def test_what_onnx_needs_is_named(run, place, monkeypatch):
    monkeypatch.setattr(program, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"onnx, onnxscript, onnxruntime is not installed: pip install 'sfumato\[onnx\]'"
    ):
        to_program(run, place / "never.onnx", kind="onnx")


def test_a_program_of_onnx(run, place):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    assert to_program(run, place / "denoiser.onnx", kind="onnx").apart < 1e-5


def test_config_is_that_of_diffusers(done):
    config = json.loads((done.folder / "model_index.json").read_text())
    assert config["_class_name"] == "ConsistencyModelPipeline"
    assert config["unet"] == ["diffusers", "UNet2DModel"]


def test_what_left_comes_back_as_it_was(run, done, tmp_path):
    """By plain load: classes, null class, sampler, grid and guidance are those of the run, and so are the pictures."""
    ours, theirs = load(run), load(done.folder)
    assert (theirs.num_classes, theirs.null_class, theirs.latents) == (10, True, False)
    assert (theirs.sampler, theirs.grid, theirs.steps, theirs.guidance) == (ours.sampler, ours.grid, 6, CFG(1.5))
    told = {"seeds": [3, 4], "labels": [7, None]}
    torch.testing.assert_close(theirs.sample(**told).images, ours.sample(**told).images, atol=1e-5, rtol=0)
    raw = load(run, ema=False).sample(**told).images
    torch.testing.assert_close(load(done.folder, ema=False).sample(**told).images, raw, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 2}, "is not what `sfumato export` of this version writes"),
        ({"num_classes": None}, "is not what `sfumato export` writes"),
        ({"num_classes": 3}, "classes is 3, and the network embeds 11"),
        ({"sampler": {"class_path": "sfumato.samplers.Nothing"}}, "can't be imported"),
    ],
)
def test_a_changed_file_is_refused(done, tmp_path, change, says):
    shutil.copytree(done.folder, tmp_path / "copy")
    file = tmp_path / "copy" / "sfumato.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **change}))
    with pytest.raises(ValueError, match=says):
        load(tmp_path / "copy")


def test_a_folder_imports_no_class_of_somebody(done, tmp_path, monkeypatch):
    (tmp_path / "evil_of_a_folder.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(done.folder, tmp_path / "copy")
    file = tmp_path / "copy" / "sfumato.yaml"
    said = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**said, "sampler": {"class_path": "evil_of_a_folder.Evil", "init_args": {}}}))
    assert load(tmp_path / "copy").sampler == DPMSolverPP()  # what its scheduler says


def test_raw_weights_come_back_from_under_either_name(run, tmp_path):
    done = to_diffusers(run, tmp_path / "out", variant="non_ema")
    told = {"seeds": [3], "labels": [7]}
    for ema in (True, False):
        made = load(done.folder, ema=ema).sample(**told).images
        torch.testing.assert_close(made, load(run, ema=ema).sample(**told).images, atol=1e-5, rtol=0)

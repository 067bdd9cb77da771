"""`sfumato encode` as its user meets it, and training on what it wrote."""

import json

import pytest
import torch
from diffusers import AutoencoderKL

from sfumato.diffusion import Digits, LatentArray, load
from sfumato.tools.cli import main


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vaes") / "tiny"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoencoderKL(
            in_channels=1, out_channels=1, block_out_channels=(4, 4), layers_per_block=1, latent_channels=2, norm_num_groups=2,
            mid_block_add_attention=False, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ).save_pretrained(folder)  # fmt: skip
    return folder


def words(*more):
    return list(map(str, ("encode", "Digits", "--data.part", "even", "--batch", "300", "--threads", "1", *more)))


def test_latents_are_made_told_and_trained_on(vae, tmp_path, capsys):
    out = tmp_path / "latents"
    assert main(words("--vae", vae, "--out", out, "--mirror", "--dtype", "float32")) == 0
    told = capsys.readouterr().out
    data = LatentArray(str(out))
    assert len(data) == 2 * len(Digits("even"))
    assert f"latents: {len(data)} of 2x4x4, the second half mirrored, float32, 463.9 KiB" in told
    assert "from: 899 of 1x8x8, 10 classes; AutoencoderKL tiny" in told
    for key in ("channel_mean", "channel_std"):
        assert all(f"{v:.3g}" in told for v in data.about[key])
    # what it says to train on is a data set of a recipe; on the posterior's mean, which needs nothing drawn
    (line,) = (line for line in told.splitlines() if line.startswith("in: "))
    said = line.split("train on them by ")[1].split()
    run = tmp_path / "run"
    small = [
        "--steps",
        "2",
        "--batch",
        "8",
        "--backbone.width",
        "8",
        "--backbone.attention",
        "[]",
        "--sample_every",
        "0",
    ]
    assert main(["train", "digits", *said, "--data.sample", "false", *small, "--out", str(run)]) == 0
    assert load(run).sample([0], [1]).images.shape == (1, 2, 4, 4)
    assert main(words("--vae", vae, "--out", out)) == 2
    assert "which holds latents already; give another folder" in capsys.readouterr().err


def test_what_was_interrupted_goes_on(vae, tmp_path, capsys, monkeypatch):
    from sfumato.diffusion.vae import Vae

    encode, calls = Vae.encode, []

    def stopped(self, x):
        calls.append(len(x))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(self, x)

    with monkeypatch.context() as patch:
        patch.setattr(Vae, "encode", stopped)
        assert main(words("--vae", vae, "--out", tmp_path / "a")) == 130
    err = capsys.readouterr().err
    assert f"what is done is kept in {tmp_path / 'a'}.part; the same command goes on with it" in err
    assert "Traceback" not in err
    assert json.loads((tmp_path / "a.part" / "progress.json").read_text())["done"] == 300
    assert main(words("--vae", vae, "--out", tmp_path / "a")) == 0
    assert main(words("--vae", vae, "--out", tmp_path / "b")) == 0
    assert all(p.read_bytes() == (tmp_path / "b" / p.name).read_bytes() for p in (tmp_path / "a").iterdir())


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["encode"], "data: missing; the pictures"),
        (["encode", "Digits"], "out: missing"),
        (["encode", "Digit", "--vae", "x", "--out", "y"], "did you mean Digits?"),
        (["encode", "Digits", "--data.prat", "even", "--vae", "x", "--out", "y"], "did you mean part?"),
        (["encode", "Digits", "--vae", "/nowhere", "--out", "y"], "holds no config.json"),
        (["encode", "Digits", "--vae", "x", "--out", "y", "--batch", "0"], "batch is 0; allowed: >= 1"),
        (
            ["encode", "Digits", "--vae", "x", "--out", "y", "--precision", "fp8"],
            "precision is 'fp8'; allowed: fp32, bf16, fp16",
        ),
        (["encode", "Digits", "--vae", "x", "--out", "y", "--dtype", "float64"], "dtype is 'float64'"),
        (
            ["encode", "ArrayData", "--data.path", "/nowhere.npy", "--vae", "x", "--out", "y"],
            "ArrayData.path is '/nowhere.npy'",
        ),
        (["encode", "LatentArray", "--data.folder", "/nowhere", "--vae", "x", "--out", "y"], "holds no latents.json"),
        (["train", "digits", "--data", "LatentArray"], "data.folder: missing; what `sfumato encode` wrote"),
    ],
)
def test_mistakes_are_one_message_and_exit_2(argv, said, capsys):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err


def test_a_device_that_is_not_there(vae, tmp_path, capsys):
    assert main(words("--vae", vae, "--out", tmp_path / "x", "--device", "nowhere")) == 2
    assert "device is 'nowhere', which can't be used here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

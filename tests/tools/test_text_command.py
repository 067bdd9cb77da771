"""Texts and latents on the command line: encode, train, sample."""

import json

import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from sfumato.diffusion import Captions, Digits, LatentArray, Split, StoredText, Vae, load
from sfumato.diffusion.encode import encode
from sfumato.diffusion.texts import texts_of
from sfumato.tools.cli import main
from sfumato.tools.sample import also_of

CAPTIONS = [
    "--data.source",
    "Digits",
    "--data.source.part",
    "even",
    "--data.names",
    "[zero,one,two,three,four,five,six,seven,eight,nine]",
]


def small(folder, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoencoderKL(
            in_channels=1, out_channels=1, block_out_channels=(4, 4), layers_per_block=1, latent_channels=1, norm_num_groups=2,
            mid_block_add_attention=False, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        ).save_pretrained(folder)  # fmt: skip
    return folder


def run(*words):
    return main([str(w) for w in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Latents with captions, encoded, and a run on them."""
    root = tmp_path_factory.mktemp("road")
    vae, latents, folder = small(root / "vae"), root / "latents", root / "run"
    assert run(
        "encode", "Captions", *CAPTIONS, "--vae", vae, "--out", latents, "--batch", 300, "--threads", 1, "--text", "HashedWords",
        "--text.width", 8,
    ) == 0  # fmt: skip
    return root, vae, latents, folder


def train(latents, folder, *more):
    return run(
        "train", "digits-text", "--out", folder, "--data", "LatentArray", "--data.folder", latents, "--text", "StoredText", "--text.folder",
        latents / "text", "--backbone.size", 4, "--backbone.width", 16, "--backbone.depth", 1, "--backbone.text_width", 8, "--steps", 2,
        "--warmup", 1, "--batch", 4, "--sampling_steps", 2, "--tracker", "null", *more,
    )  # fmt: skip


def test_the_whole_road(trained, capsys):
    """Pictures and captions to latents and texts, to a run, to pictures: those that the VAE makes of the run's own latents."""
    root, vae, latents, folder = trained
    data = LatentArray(str(latents))
    assert data.texts(torch.tensor([0, 3])) == [("zero",), ("six",)]
    assert StoredText(str(latents / "text")).encode(["zero"])["text"].shape == (1, 16, 8)
    assert train(latents, folder, "--vae", vae, "--sample_every", 2, "--prompts", "[a, b]") == 0
    assert f'--prompts "..." --vae {vae}' in capsys.readouterr().out
    with Image.open(next(iter((folder / "samples").glob("*.png")))) as sheet:
        assert '"prompt": "b"' in json.dumps(sheet.info).replace('\\"', '"')
    (root / "words.txt").write_text("three\r\n\r\na seven\r\n", encoding="utf-8-sig", newline="")
    assert run(
        "sample", folder, "--vae", vae, "--prompts", root / "words.txt", "--seeds", "0-2", "--out", root / "out", "--guidance", "CFG",
        "--guidance.scale", 2, "--guidance.against", "negative", "--also.negative", "eight",
    ) == 0  # fmt: skip
    told = [json.loads(Image.open(p).info["sfumato"]) for p in sorted((root / "out").glob("seed-*.png"))]
    assert [each["prompt"] for each in told] == ["three", "a seven", "three"]
    assert all(each["also"] == {"negative": "eight"} for each in told)
    # in Python: latents without a VAE, and with it what it makes of them
    plain, shown = load(folder), load(folder, vae=vae)
    raw = plain.sample(range(2), prompts="three").images
    assert raw.shape == (2, 1, 4, 4)
    pictures = shown.sample(range(2), prompts="three").images
    torch.testing.assert_close(pictures, torch.cat([Vae(vae).decode(one) for one in raw.split(1)]), atol=1e-6, rtol=0)


def test_another_vae_is_refused_and_none_is_said(trained, tmp_path, capsys):
    _, _, latents, folder = trained
    other = small(tmp_path / "other", seed=1)
    if not folder.exists():
        assert train(latents, folder) == 0
    assert run("sample", folder, "--vae", other, "--out", tmp_path / "out") != 0
    assert "weights are not those of the VAE that made the latents" in capsys.readouterr().err
    assert run("sample", folder, "--out", tmp_path / "out") != 0
    assert "give the folder of their VAE by --vae" in capsys.readouterr().err
    for every in (0, 1):
        assert train(latents, tmp_path / f"run{every}", "--vae", other, "--sample_every", every) != 0
        assert "the VAE that made the latents" in capsys.readouterr().err
    assert train(latents, tmp_path / "run2", "--sample_every", 1) == 0
    assert "are latents: there will be no previews; set vae to the folder of " in capsys.readouterr().err


def test_texts_alone_are_encoded(tmp_path, capsys):
    out = tmp_path / "texts"
    assert run("encode", "Captions", *CAPTIONS, "--text", "HashedWords", "--out", out) == 0
    told = capsys.readouterr().out
    assert (
        f"texts: 11, the empty one among them; train on them by --text StoredText --text.folder {out} --backbone.text_width 64"
        in told
    )
    assert run("encode", "Digits", "--text", "HashedWords", "--out", tmp_path / "none") != 0
    assert "the data have no captions" in capsys.readouterr().err
    assert run("encode", "Digits", "--out", tmp_path / "none") != 0
    assert "nothing to encode with" in capsys.readouterr().err
    assert run("sample", tmp_path, "--prompts", tmp_path / "lost.txt") != 0


def test_texts_of_further_branches_are_one_several_or_none():
    assert also_of({"negative": ["a", "b"], "second": 7, "third": ""}, 3, texts=True) == {
        "negative": ["a", "b", "a"], "second": ["7"] * 3, "third": [""] * 3,
    }  # fmt: skip
    for value in (None, [], [None]):
        with pytest.raises(ValueError, match=r"also\.negative is .*; allowed: a text, a list of texts"):
            also_of({"negative": value}, 2, texts=True)


def test_mirrored_latents_have_the_captions_of_what_was_mirrored(trained, tmp_path):
    pictures = Captions(Split(Digits("even")), names=[*"0123456789"])
    data = encode(pictures, Vae(trained[1]), tmp_path / "latents", batch=500, mirror=True)
    index = torch.arange(len(data))
    assert len(data) == 2 * len(pictures)
    assert data.texts(index) == texts_of(pictures, index % len(pictures))

"""A published checkpoint by the name of its file: which family it is, what is refused, and how it is sampled."""

import pytest
import torch
from safetensors.torch import save_file

from sfumato.diffusion import DiT, load
from sfumato.diffusion.published.dit import _names
from sfumato.guidance import CFG
from sfumato.samplers import DDIM


@pytest.fixture(scope="module", name="net")
def made():
    torch.manual_seed(0)
    net = DiT(4, 8, 3, patch=4, width=384, depth=1, heads=6, out_channels=8)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.02 * torch.randn_like(p))
    return net


@pytest.fixture(scope="module", name="file")
def saved(net, tmp_path_factory):
    weights = {theirs: net.state_dict()[ours].clone() for ours, theirs in _names(1).items()}
    weights["x_embedder.proj.weight"] = weights["x_embedder.proj.weight"].view(384, 4, 4, 4)
    weights["pos_embed"] = weights["pos_embed"][None]
    path = tmp_path_factory.mktemp("published") / "tiny.safetensors"
    save_file(weights, path)
    return path


def test_a_file_is_the_network_of_its_authors(net, file):
    model = load(file)
    for name, tensor in net.state_dict().items():
        assert torch.equal(model.denoiser.backbone.state_dict()[name], tensor)
    assert (model.shape, model.num_classes, model.null_class, model.latents) == ((4, 8, 8), 3, True, True)
    assert (model.sampler, model.steps, model.guidance) == (DDIM(), 50, CFG(4.0))
    assert model.source["published"] == "DiT-S/4"


def test_its_decoder_makes_the_pictures(file):
    class Halving:
        def decode(self, x):
            return (x[:, :3] / 100).clamp(-1, 1)

        def picture_shape(self, shape):
            return (3, *shape[1:])

    told = {"seeds": [3], "labels": [1], "steps": 2}
    out = load(file, vae=Halving()).sample(**told)
    assert torch.equal(out.images, Halving().decode(load(file).sample(**told).images))


@pytest.mark.parametrize(
    ("weights", "told", "says"),
    [
        ({"a": torch.zeros(2)}, {}, "holds a, ..., which are no weights of DiT, ADM or EDM"),
        (None, {"size": 64}, "size is 64, but the positions of a DiT say its size"),
        (None, {"step": 3}, "step is 3, which says nothing about a published checkpoint"),
        (None, {"ema": 0.1}, "ema is 0.1, but only a run has averages"),
        (None, {"device": "nowhere"}, "device is 'nowhere', which can't be used"),
        (None, {"precision": "fp64"}, "precision is 'fp64'; allowed: fp32, bf16, fp16"),
    ],
)
def test_what_is_refused(file, tmp_path, weights, told, says):
    if weights is not None:
        file = tmp_path / "other.safetensors"
        save_file(weights, file)
    with pytest.raises(ValueError, match=says):
        load(file, **told)


def test_files_that_are_no_safetensors_are_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ValueError, match="can't be read as safetensors"):
        load(tmp_path / "cut.safetensors")
    (tmp_path / "DiT-XL-2.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"Weights in a pickle \(.pt, .bin\) are converted first"):
        load(tmp_path / "DiT-XL-2.pt")


def test_a_text_encoder_says_nothing_about_it(file):
    with pytest.raises(ValueError, match="which says nothing about a published checkpoint; leave it out"):
        load(file, text="clip")

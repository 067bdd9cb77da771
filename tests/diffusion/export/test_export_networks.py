"""Our networks in the words of diffusers give the same numbers."""

import pytest
import torch

from sfumato.diffusion import DiT, UNet
from sfumato.diffusion.backbones.adm import ADM
from sfumato.diffusion.backbones.embedding import sinusoid
from sfumato.diffusion.export.adm import adm_native
from sfumato.diffusion.export.dit import dit_native
from sfumato.diffusion.export.native import make_network
from sfumato.diffusion.export.told import Told, absorb
from sfumato.diffusion.export.unet import unet_native

TIMES = torch.tensor([0.3, 5.0, 100.0, 999.0])
UNETS = {
    "channels": 3,
    "size": 8,
    "num_classes": 3,
    "width": 16,
    "multipliers": [1, 2],
    "blocks": 1,
    "groups": 4,
    "head_width": 8,
}
ADMS = {**UNETS, "attention": [4]}
DITS = {
    "channels": 3,
    "size": 8,
    "num_classes": 3,
    "patch": 2,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "frequencies": "diffusers",
}


def grown(net):
    """A network that answers something, untrained."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return net.eval()


def apart(net, convert, told, out_channels=3, **rest):
    """Largest difference of the outputs, at timesteps that say the same."""
    native = convert(net, told, out_channels, **rest)
    theirs = make_network(native)
    x = torch.randn(4, 3, 8, 8)
    classes = net.num_classes
    last = classes if getattr(net, "null_class", True) else classes - 1
    labels = torch.tensor([0, 1, 2, last]) if classes else None
    other = labels
    if native.kind == "DiTTransformer2DModel":
        rows = native.config["num_embeds_ada_norm"]
        other = torch.zeros(4, dtype=torch.long) if labels is None else torch.where(labels == classes, rows, labels)
    with torch.no_grad():
        ours = net(x, told.sign * TIMES + told.shift, labels)
        return float((ours[:, :out_channels] - theirs(x, timestep=TIMES, class_labels=other).sample).abs().max())


@pytest.mark.parametrize("told", [Told(), Told(-1.0, 0.0), Told(1.0, 1.0)])
@pytest.mark.parametrize(
    "also",
    [
        {"attention": [], "time_features": 16},
        {"attention": [4, 8], "time_features": 8},  # its frequencies are every second of those that are there
        {"attention": [8], "multipliers": [1, 1], "blocks": 2, "time_features": 16, "augment_features": 2},
        {"attention": [4], "multipliers": [1, 3, 3], "num_classes": 0, "time_features": 4, "out_channels": 6},
    ],
)
def test_unet(also, told):
    torch.manual_seed(0)
    net = grown(UNet(**{**UNETS, **also}))
    assert apart(net, unet_native, told) < 1e-5


@pytest.mark.parametrize(
    "also",
    [
        {},
        {"updown": "conv", "attention": []},
        {"scale_shift": False, "num_classes": 0},
        {"null_class": False, "attention": [8]},
        {"heads": 2, "head_width": None, "multipliers": [1, 1], "out_channels": 6},
    ],
)
def test_adm(also):
    torch.manual_seed(0)
    net = grown(ADM(**{**ADMS, **also}))
    assert apart(net, adm_native, Told(1.0, 1.0), net.config["out_channels"] or 3) < 1e-5
    native = adm_native(net, Told(), net.config["out_channels"] or 3)
    assert sum(w.numel() for w in native.weights.values()) == sum(
        p.numel() for p in net.parameters()
    )  # nothing is padded


@pytest.mark.parametrize(
    ("also", "rest"),
    [({}, {}), ({"num_classes": 0}, {}), ({"out_channels": 6, "patch": 4}, {}), ({}, {"classes": 1000})],
)
def test_dit(also, rest):
    torch.manual_seed(0)
    net = grown(DiT(**{**DITS, **also}))
    assert apart(net, dit_native, Told(1.0, 1.0), **rest) < 1e-5
    assert apart(net, dit_native, Told(-1.0, 0.0), net.config["out_channels"] or 3, **rest) < 1e-5


@pytest.mark.parametrize("room", [12, 24, 36])
@pytest.mark.parametrize("told", [Told(), Told(-1.0, 0.0), Told(1.0, 1.0), Told(-1.0, 3.0)])
def test_a_first_layer_absorbs_sign_and_shift(told, room):
    torch.manual_seed(0)
    weight = torch.randn(5, 12)
    ours = sinusoid(told.sign * TIMES + told.shift, 12).double() @ weight.double().T
    theirs = sinusoid(TIMES, room).double() @ absorb(weight, told, room).double().T
    assert torch.allclose(ours, theirs, atol=3e-4)  # angles of 1000 radians are rounded to 3e-5
    assert torch.allclose(ours[:2], theirs[:2], atol=1e-5)


@pytest.mark.parametrize(
    ("make", "convert", "also", "words"),
    [
        (UNet, unet_native, {"groups": None, "attention": []}, "groups"),
        (UNet, unet_native, {"attention": []}, "time_features: 16"),
        (UNet, unet_native, {"attention": [], "time_features": 16, "multipliers": [2, 1]}, "multipliers"),
        (UNet, unet_native, {"attention": [4, 8], "time_features": 16, "head_width": 32, "groups": 4}, "head_width"),
        (ADM, adm_native, {"attention": [], "multipliers": [0.5, 1], "head_width": 8}, "time_features"),
        (DiT, dit_native, {"frequencies": "published"}, "frequencies: diffusers"),
        (DiT, dit_native, {"mlp_ratio": 2.0}, "mlp_ratio"),
        (DiT, dit_native, {"rope": True}, "rope"),
        (DiT, dit_native, {"registers": 2}, "registers"),
    ],
)
def test_what_diffusers_has_not_is_named(make, convert, also, words):
    base = {UNet: UNETS, ADM: ADMS, DiT: DITS}[make]
    with pytest.raises(ValueError, match=words):
        convert(make(**{**base, **also}), Told(), 3)

"""Sampling in half precision: the numbers of autocast, at half of the memory."""

import copy

import pytest
import torch
from torch import nn

from sfumato.diffusion import ADM, EDM2, Denoiser, DiT, LogSNRClock, UNet, load, loading
from sfumato.diffusion.compiling import compile_forward
from sfumato.diffusion.half_weights import halve_weights
from sfumato.diffusion.model import Model
from sfumato.diffusion.quantise import quantised
from sfumato.guidance import CFG
from sfumato.schedules import EDM, RectifiedFlow

NETWORKS = {
    "DiT": lambda: DiT(1, 8, 10, width=32, depth=1, heads=2, rope=True, qk_norm=True),
    "UNet": lambda: UNet(1, 8, 10, width=8, multipliers=(1, 2), blocks=1, attention=(8,), head_width=8),
    "ADM": lambda: ADM(1, 8, 10, width=32, multipliers=(1,), blocks=1, attention=(8,)),
    "EDM2": lambda: EDM2(1, 8, 10, width=64, multipliers=(1,), blocks=1, attention=()),
}


def network(name):
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    return net


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_answer_is_that_of_autocast_to_the_bit(name, precision):
    net, half = network(name), network(name)
    halve_weights(half, precision)
    given = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([3, 10])
    with torch.autocast("cpu", {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]):
        expected = net(*given)
    found = half(*given)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    assert not torch.equal(found, net(*given))
    sizes = [sum(p.numel() * p.element_size() for p in module.parameters()) for module in (net, half)]
    assert (
        sizes[1] < (0.62 if name != "EDM2" else 1.01) * sizes[0]
    )  # EDM2 norms its weights at every call, in single precision
    assert list(half.state_dict()) == list(net.state_dict())


def model():
    return Model(Denoiser(network("DiT"), RectifiedFlow(), EDM(0.75), LogSNRClock()), (1, 8, 8), 10)


def test_what_is_loaded_in_half_precision_says_so_and_is_near(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").touch()  # a run, as far as one looks
    monkeypatch.setattr(loading, "_load", lambda *given: model())

    def drawn(precision):
        found = load(tmp_path, precision=precision)
        return found.sample(range(4), [1, 2, 3, 4], steps=3, guidance=CFG(2.0))

    full, half = drawn("fp32"), drawn("bf16")
    assert "precision" not in full.settings
    assert half.settings["precision"] == "bf16"
    distance = float((full.images - half.images).abs().max())
    assert 0.0 < distance < 0.1
    with pytest.raises(ValueError, match="precision is 'half'; allowed: fp32, bf16, fp16"):
        load(tmp_path, precision="half")


@torch.no_grad()
def test_it_goes_with_compiling_copies_and_int8():
    made = model()
    halve_weights(made.denoiser.backbone, "bf16")
    net, given = made.denoiser.backbone, (torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([3, 10]))
    expected = net(*given)
    for what in ("blocks", "whole"):
        twin = copy.deepcopy(net)
        compile_forward(twin, what, "eager", inference=True)
        assert torch.equal(twin(*given), expected)
    twin.head.weight.zero_()
    assert torch.equal(net(*given), expected)
    small = quantised(made, "int8_weights").denoiser.backbone
    torch.testing.assert_close(small(*given), expected, atol=0.05, rtol=0.05)

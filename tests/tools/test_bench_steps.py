"""`sfumato bench train`: equal sizes, steps that train, peers that are absent; their times are for nobody here."""

import json

import pytest
import torch
from torch import nn

from sfumato.tools.bench import training
from sfumato.tools.bench.peer_networks import OURS, PEERS, Network, about
from sfumato.tools.bench.peers import installed
from sfumato.tools.bench.training import VARIANTS, Variant, base_step, our_step
from sfumato.tools.cli import main


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x, time):
        return self.conv(x)


def small():
    torch.manual_seed(0)
    return Small()


def test_the_steps_of_both_sides_are_the_same_step():
    """Loops or not, fused or not, in any memory format: the weights after three steps agree, so what is timed is one piece of work."""
    theirs = small()
    step = base_step(Network(theirs, lambda module, x, time: module(x, time)), 4)
    for _ in range(3):
        step()
    assert not torch.equal(theirs.conv.weight, small().conv.weight)
    for variant in VARIANTS.values():
        ours = small()
        step = our_step(ours, 4, variant)
        for _ in range(3):
            step()
        torch.testing.assert_close(ours.conv.weight, theirs.conv.weight, atol=2e-4 if variant.half else 1e-6, rtol=0.0)


@pytest.mark.skipif(not installed("diffusers"), reason="diffusers is not installed")
def test_ours_are_within_two_percent_of_the_size_of_a_peer():
    theirs = about(PEERS["diffusers"][1]())
    assert theirs["parameters"] == 1_002_883
    for make in OURS["diffusers"].values():
        count = sum(p.numel() for p in make().parameters())
        assert abs(count / theirs["parameters"] - 1) < 0.02
    for make in OURS["lucidrains"].values():  # whose Unet(dim=36, dim_mults=(1, 2)) has 1,030,583
        assert abs(sum(p.numel() for p in make().parameters()) / 1_030_583 - 1) < 0.02


def test_an_absent_peer_is_said_to_be_absent(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(PEERS, "lucidrains", ("no_such_package", PEERS["lucidrains"][1]))
    assert main(["bench", "train", "--quick", "--against", "lucidrains", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "train-quick.json").read_text())
    assert (found["absent"], found["speed"]) == (["lucidrains"], {})
    assert "lucidrains: absent (no_such_package can't be imported here" in capsys.readouterr().out
    assert main(["bench", "train", "--against", "edm,diffusers"]) == 2
    assert "against names 'edm'; allowed: diffusers, lucidrains" in capsys.readouterr().err


def test_what_is_measured_is_written(monkeypatch):
    """Speeds are the peer's time over ours, of one run."""
    monkeypatch.setitem(
        training.PEERS, "diffusers", ("torch", lambda: Network(small(), lambda module, x, time: module(x, time)))
    )
    monkeypatch.setitem(training.OURS, "diffusers", {"UNet": small})
    monkeypatch.setattr(
        training, "ratios", lambda runs, rounds, cuda: {name: 1.0 if "/" not in name else 0.5 for name in runs}
    )
    said = []
    found = training.measure_training(["diffusers"], 2, 1, False, said.append)
    assert found["speed"] == {f"diffusers/UNet/{name}": 2.0 for name in VARIANTS}
    assert found["networks"]["diffusers"]["parameters"] == 84
    assert Variant() == VARIANTS["fp32"]
    assert "diffusers/UNet/bf16: 2.00 times the images per second of the base of diffusers" in said

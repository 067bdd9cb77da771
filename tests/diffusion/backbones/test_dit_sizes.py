"""The published sizes of DiT, to the digit, on the meta device: parameters and multiplications."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sfumato.diffusion.backbones import DiT, sized

# size, side of the latent: numbers in the state dict, in millions, and GMAC, of 2212.09748, table 4 and section 5
PUBLISHED = {
    ("S/2", 32): (33.0, 6.06),
    ("B/4", 32): (130.5, 5.56),
    ("B/2", 32): (130.5, 23.01),
    ("L/2", 32): (458.1, 80.71),
    ("XL/8", 32): (675.7, 7.39),
    ("XL/2", 32): (675.1, 118.64),
    ("XL/2", 64): (676.0, 524.60),
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_dit_has_the_published_numbers(name: str, size: int) -> None:
    """What is counted is what the authors count: the fixed positions are numbers, too, and only products of matrices cost.

    Their GMAC have a few hundredths of a per cent of other operations in them.
    """
    with torch.device("meta"):
        net = DiT(channels=4, size=size, num_classes=1000, out_channels=8, **sized(name))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(torch.zeros(1, 4, size, size), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    count = sum(tensor.numel() for tensor in net.state_dict().values())
    gmac = counter.get_total_flops() / 2e9

    w, depth, patch = {"S": (384, 12), "B": (768, 12), "L": (1024, 24), "XL": (1152, 28)}[name[:-2]] + (int(name[-1]),)
    tokens = (size // patch) ** 2
    block = (6 * w + 3 * w + w + 4 * w + 4 * w) * w + 6 * w + 3 * w + w + 4 * w + w
    ends = 4 * patch**2 * w + w + (256 * w + w) + (w * w + w) + 1001 * w + tokens * w
    head = 2 * w * w + 2 * w + 8 * patch**2 * (w + 1)
    assert count == depth * block + ends + head

    once = 256 * w + w * w + depth * 6 * w * w + 2 * w * w  # per picture: time and modulations
    each = 12 * patch**2 * w + depth * (12 * w * w + 2 * tokens * w)  # per token
    assert round(gmac * 1e9) == once + tokens * each

    millions, published = PUBLISHED[name, size]
    assert round(count / 1e6, 1) == millions
    assert abs(gmac - published) < 0.005 + 3e-4 * published


def test_exact_counts() -> None:
    with torch.device("meta"):
        net = DiT(channels=4, size=32, num_classes=1000, out_channels=8, **sized("XL/2"))
    assert sum(tensor.numel() for tensor in net.state_dict().values()) == 675_129_632  # what the authors' code prints


def test_other_sizes_are_refused() -> None:
    for name in ("XL", "XL/3", "M/2", "xl/2", "/2", ""):
        with pytest.raises(ValueError, match="allowed: S/2, S/4, S/8, B/2"):
            sized(name)


def test_gated_mlps_cost_about_as_much() -> None:
    counts = []
    for swiglu in (False, True):
        with torch.device("meta"):
            net = DiT(channels=4, size=32, num_classes=1000, swiglu=swiglu, **sized("B/2"))
        counts.append(sum(p.numel() for p in net.layers.parameters()))
    assert 1.0 < counts[1] / counts[0] < 1.0002

"""Networks of other libraries with about a million parameters, and ours of their size."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ...diffusion import DiT, UNet

__all__ = ["OURS", "PEERS", "Network", "TheirUNet", "about", "plain"]

Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


class Network(NamedTuple):
    """A network, and how it is called with noisy images (B, 3, 32, 32) and times (B,)."""

    module: nn.Module
    call: Call


def plain(network: nn.Module) -> Network:
    """A network that is called with images and times, and answers with a tensor."""
    return Network(network, lambda module, x, time: module(x, time))


class TheirUNet(nn.Module):
    """The UNet of diffusers as a backbone of ours, with the very same weights.

    Args:
        unet: a UNet2DModel.
    """

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet, self.channels, self.size, self.num_classes = unet, 3, 32, 0

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, 3, 32, 32) and float32 times (B,) in 0..1000."""
        return self.unet(x, time).sample


def _diffusers() -> Network:
    import diffusers

    unet = diffusers.UNet2DModel(  # pyright: ignore[reportPrivateImportUsage]
        sample_size=32, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return Network(unet, lambda module, x, time: module(x, time).sample)


def _lucidrains() -> Network:
    # it imports torchvision, for the pictures of its own trainer
    return plain(importlib.import_module("denoising_diffusion_pytorch").Unet(dim=36, dim_mults=(1, 2)))


PEERS: dict[str, tuple[str, Callable[[], Network]]] = {
    "diffusers": ("diffusers", _diffusers),
    "lucidrains": ("denoising_diffusion_pytorch", _lucidrains),
}

# within 2 % of each peer's parameters, with two resolutions and attention at 16x16 as they have
OURS: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "diffusers": {
        "UNet": lambda: UNet(3, 32, 0, width=8, multipliers=(5, 12), blocks=1, attention=(16,), head_width=32),
        "DiT": lambda: DiT(3, 32, 0, patch=4, width=128, depth=4, heads=4, mlp_ratio=2.0),
    },
    "lucidrains": {
        "UNet": lambda: UNet(3, 32, 0, width=8, multipliers=(6, 12), blocks=1, attention=(16,), head_width=32),
        "DiT": lambda: DiT(3, 32, 0, patch=4, width=128, depth=4, heads=4, mlp_ratio=2.0),
    },
}


def about(network: Network) -> dict[str, float]:
    """Parameters, and millions of floating-point operations of a forward pass of one image, attention included."""
    counter = FlopCounterMode(display=False)
    # of a CPU's fused attention it knows no operations
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network.call(network.module, torch.zeros(1, 3, 32, 32), torch.zeros(1))
    return {
        "parameters": sum(p.numel() for p in network.module.parameters()),
        "mflop": round(counter.get_total_flops() / 1e6, 1),
    }

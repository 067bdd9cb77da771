"""Models that a whole sampling call is measured with: around the networks of others, ours, and one that is a single operation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...diffusion import Denoiser, TimeClock, UNet
from ...diffusion.model import Model
from ...samplers import DDIM
from ...schedules import Eps, LinearBeta, Row
from .floors import Network

__all__ = ["OneOperation", "half", "model_of", "small_unet", "unsaid"]


def half(x: Tensor) -> Tensor:
    """What a network is that costs next to nothing."""
    return x * 0.5


class OneOperation(nn.Module):
    """A backbone that hands its input to a function, so that what is left of a call is its own cost.

    Args:
        network: (B, C, H, W) -> the same shape.
        num_classes: how many it seems to know.
    """

    def __init__(self, network: Callable[[Tensor], Tensor] = half, num_classes: int = 0) -> None:
        super().__init__()
        self.network: Network = network
        self.num_classes = num_classes
        self.here = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W), times (B,) and labels (B,), which it does not look at."""
        return self.network(x)


def model_of(backbone: nn.Module, shape: tuple[int, ...] = (3, 32, 32), row: Row | None = None) -> Model:
    """A model on the linear-beta path, sampled by DDIM.

    Args:
        backbone: the network.
        shape: (C, H, W) of a sample.
        row: what it predicts; None: the noise.
    """
    classes = int(getattr(backbone, "num_classes", 0))
    return Model(Denoiser(backbone, LinearBeta(), row or Eps(), TimeClock()), shape, classes, sampler=DDIM())


def small_unet(size: int, num_classes: int = 0) -> UNet:
    """The UNet of the quickstart, of three channels.

    Args:
        size: of its pictures, a multiple of 2.
        num_classes: 0: unconditional.
    """
    return UNet(3, size, num_classes, width=16, multipliers=(1, 2), blocks=1, attention=())


@contextmanager
def unsaid() -> Iterator[None]:
    """Without warnings: pictures of weights that were never trained are none, and it would be said each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

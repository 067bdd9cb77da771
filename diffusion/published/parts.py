"""What is known of a published checkpoint."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from ...schedules import Row, Schedule
from ..clocks import Clock

__all__ = ["Published"]


class Published(NamedTuple):
    """A network with the weights of its authors, and the forward process that it was trained on.

    backbone: ours, weights loaded. schedule, row, clock: see Denoiser. shape: (C, H, W) of a sample. num_classes: 0: none. null_class:
    whether a null class was trained. latents: whether samples are a VAE's latents, scaled as it says. name: as its authors call it.
    """

    backbone: nn.Module
    schedule: Schedule
    row: Row
    clock: Clock
    shape: tuple[int, ...]
    num_classes: int
    null_class: bool
    latents: bool
    name: str

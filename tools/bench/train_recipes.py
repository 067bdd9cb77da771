"""Recipes of networks that are timed: pictures of noise, for what is learned of them is nobody's concern."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from ...diffusion.choice import chosen
from ...diffusion.data import Batch
from ...diffusion.launch import Processes
from ...diffusion.recipe import Recipe
from ...schedules import Flow, RectifiedFlow

__all__ = ["Noise", "choice", "recipe_of"]


@dataclass(frozen=True)
class Noise:
    """Pictures that nothing was drawn on.

    Args:
        count: how many.
        shape: of one, (channels, height, width).
    """

    count: int
    shape: tuple[int, ...]
    num_classes: int = 0
    fingerprint: str = "noise"

    @cached_property
    def x(self) -> Tensor:
        """All of them, (count, *shape)."""
        return torch.rand(self.count, *self.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor) -> Batch:
        """Those at `index`, int64 (B,)."""
        return Batch(self.x[index], None)


def recipe_of(
    backbone: nn.Module, shape: tuple[int, ...], batch: int, steps: int = 1000, pictures: int = 512
) -> Recipe:
    """A network of velocities, with all that a recipe has by default; nothing is saved but the end.

    Args:
        backbone: called with pictures of `shape` and times.
        shape: of a picture, (channels, height, width).
        batch: pictures per step.
        steps: optimizer steps.
        pictures: in the data.
    """
    return Recipe(
        Noise(pictures, shape), backbone, RectifiedFlow(), Flow(), steps=steps, batch=batch, warmup=1, save_every=0, tracker=None
    )  # fmt: skip


def choice(backbone: nn.Module, shape: tuple[int, ...], batch: int) -> tuple[str, str]:
    """(precision, memory format) that `auto` comes to for a network and a batch on the host; it measures some steps of each."""
    recipe = replace(recipe_of(backbone, shape, batch), precision="auto", memory_format="auto")
    with torch.enable_grad():
        found = chosen(recipe, Processes("fp32", cpu=True), batch)
    return found["precision"], found["memory_format"]

"""The memory of training as `sfumato train --dry-run` predicts it, beside what PyTorch's allocator was asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from ...diffusion import DiT, UNet
from ...diffusion.activations import activation_bytes
from ...diffusion.interrupt import Told
from ...diffusion.plan import plan_batches
from ...diffusion.recipe import Recipe
from ...diffusion.report import memory_of
from ...diffusion.run import Run
from .train_counts import allocations, peak
from .train_recipes import recipe_of

__all__ = ["TRAINED", "Trained", "largest_batch", "peak_of", "predicted"]


class Trained(NamedTuple):
    """A network, the shape of its pictures, and how many a step sees."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int


_SHAPE = (3, 32, 32)
TRAINED = {
    "UNet, 1 M, batch 32": Trained(
        lambda: UNet(3, 32, 0, width=8, multipliers=(5, 12), blocks=1, attention=(16,)), _SHAPE, 32
    ),
    "UNet, 1 M, batch 2": Trained(
        lambda: UNet(3, 32, 0, width=8, multipliers=(5, 12), blocks=1, attention=(16,)), _SHAPE, 2
    ),
    "DiT, 1 M, batch 32": Trained(lambda: DiT(3, 32, 0, patch=4, width=128, depth=4, heads=4, mlp_ratio=2.0), _SHAPE, 32),
    "DiT, 13 M, batch 2": Trained(lambda: DiT(3, 32, 0, patch=4, width=384, depth=6, heads=6), _SHAPE, 2),
}  # fmt: skip


def predicted(recipe: Recipe) -> int:
    """Bytes that `--dry-run` says a run takes."""
    return sum(memory_of(recipe, plan_batches(recipe.batch, 1, None)))


def peak_of(recipe: Recipe, steps: int = 2) -> int:
    """The most bytes of tensors that a run holds at any time in its first steps, counted by torch.profiler at every allocation.

    Args:
        recipe: whose data lie in memory already.
        steps: >= 2, since the optimizer makes its state in the first one.
    """

    def run() -> None:
        made = Run(recipe, Path(folder), Told())
        try:
            made.backbone.train()
            for _ in range(steps):
                made.make()
        finally:
            made.close()

    recipe.data.batch(torch.tensor([0]))  # read before it is counted
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        return peak(allocations(run))


def largest_batch(recipe: Recipe, memory: int) -> int:
    """The most samples of a step that `--dry-run` says fit into a memory, 0 where not even one does.

    Args:
        recipe: of any batch.
        memory: bytes, >= 1.
    """
    held = predicted(recipe) - activation_bytes(recipe, recipe.batch)
    one, two = activation_bytes(recipe, 1), activation_bytes(recipe, 2)
    return max(0, (memory - held - one) // (two - one) + 1)


def trained(case: Trained, batch: int | None = None) -> Recipe:
    """The recipe of a case, of another batch where one is given."""
    return recipe_of(case.make(), case.shape, batch or case.batch)

"""What is trained on a GPU to measure it: DiTs on latents that cost nothing to read."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import DiT, LogSNRClock, Recipe
from ...diffusion.data import Batch
from ...diffusion.interrupt import Told
from ...diffusion.run import Run
from ...schedules import RectifiedFlow
from ...schedules.rows import Flow

__all__ = ["NETWORKS", "SMALL", "Latents", "recipe_of", "running"]

# width, depth, heads, global batch
NETWORKS = {"DiT-B/2": (768, 12, 12, 256), "DiT-XL/2": (1152, 28, 16, 128)}
SMALL = {"DiT-tiny/2": (16, 2, 2, 8)}


@dataclasses.dataclass(frozen=True)
class Latents:
    """Normals in the shape of ImageNet's latents, the same numbers for the same sample.

    Args:
        size: height and width.
        count: how many samples there are.
    """

    size: int = 32
    count: int = 4096

    @property
    def shape(self) -> tuple[int, ...]:
        return (4, self.size, self.size)

    @property
    def num_classes(self) -> int:
        return 1000

    @property
    def fingerprint(self) -> str:
        return f"latents-{self.size}-{self.count}"

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor) -> Batch:
        return Batch(self._pool[index % 64], index % self.num_classes)

    @cached_property
    def _pool(self) -> Tensor:
        return torch.randn(64, *self.shape, generator=torch.Generator().manual_seed(0))


def recipe_of(network: tuple[int, int, int, int], small: bool, changes: dict[str, Any] | None = None) -> Recipe:
    """A run of a network.

    Args:
        network: width, depth, heads, batch.
        small: on smaller pictures, and not compiled.
        changes: of the recipe.
    """
    width, depth, heads, batch = network
    data = Latents(8 if small else 32)
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "data": data, "backbone": DiT(4, data.size, 1000, 2, width, depth, heads), "schedule": RectifiedFlow(), "row": Flow(),
        "clock": LogSNRClock(), "steps": 6, "batch": batch, "precision": "bf16", "compile": None if small else "blocks", "warmup": 1,
        "sampling_steps": 2, "tracker": None,
    }  # fmt: skip
    return Recipe(**{**values, **(changes or {})})


@contextmanager
def running(recipe: Recipe) -> Iterator[Run]:
    """A run that writes nothing."""
    with tempfile.TemporaryDirectory() as nowhere:
        run = Run(recipe, Path(nowhere), Told())
        run.backbone.train()
        try:
            yield run
        finally:
            run.close()

"""What is measured on a GPU: published networks as their presets train them, on data that cost nothing to read."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ...diffusion import DDPMPP, AdamW, Constant, DiT, EDMAugment, LogSNRClock, NanToNum, Recipe, sized
from ...diffusion.data import Batch
from ...diffusion.interrupt import Told
from ...diffusion.run import Run
from ...schedules import EDM, EDMWeighting, LogNormal, RectifiedFlow, VarianceExploding
from ...schedules.rows import Flow

Network = TypeVar("Network", bound=nn.Module)

__all__ = ["TRAINED", "Normals", "Trained", "dit", "filled", "recipe_of", "running"]


@dataclasses.dataclass(frozen=True)
class Normals:
    """Normals in the shape of pictures or latents, the same numbers for the same sample.

    Args:
        shape: (C, H, W).
        num_classes: labels go round them.
        std: standard deviation, > 0.
        count: how many samples there are.
    """

    shape: tuple[int, ...] = (4, 32, 32)
    num_classes: int = 1000
    std: float = 1.0
    count: int = 4096

    @property
    def fingerprint(self) -> str:
        return f"normals-{self.shape}-{self.num_classes}-{self.std}-{self.count}"

    def __len__(self) -> int:
        return self.count

    def batch(self, index: Tensor) -> Batch:
        return Batch(self._pool[index % 64], index % self.num_classes)

    @cached_property
    def _pool(self) -> Tensor:
        drawn = torch.randn(64, *self.shape, generator=torch.Generator().manual_seed(0))
        return drawn * (self.std / drawn.std())


@dataclasses.dataclass(frozen=True)
class Trained:
    """A network whose training is measured: how it is made, whether tiny, what it is trained on, and the rest of its recipe."""

    make: Callable[[bool], nn.Module]
    data: Callable[[bool], Normals]
    recipe: Mapping[str, Any]


def dit(name: str, small: bool) -> DiT:
    """A DiT of ImageNet's latents at 256 pixels, of a published size or tiny."""
    if small:
        return DiT(4, 8, 1000, width=16, depth=2, heads=2)
    size = sized(name)
    return DiT(4, 32, 1000, patch=size["patch"], width=size["width"], depth=size["depth"], heads=size["heads"])


def _dit(name: str, batch: int) -> Trained:
    return Trained(
        lambda small: dit(name, small), lambda small: Normals((4, 8, 8) if small else (4, 32, 32)),
        {"schedule": RectifiedFlow(), "row": Flow(), "clock": LogSNRClock(), "batch": batch},
    )  # fmt: skip


def _ddpmpp(small: bool) -> DDPMPP:
    if small:
        return DDPMPP(3, 8, 10, 8, (1, 2), 1, (8,), 0.13, augment_features=9)
    return DDPMPP(3, 32, 10, 128, (2, 2, 2), 4, (16,), 0.13, augment_features=9)


def _pictures(small: bool) -> Normals:
    return Normals((3, 8, 8) if small else (3, 32, 32), 10, 0.5)


# EDM's as the preset cifar10-edm has it, but for the precision and the memory format
_EDM = {
    "schedule": VarianceExploding(0.002, 80.0, 7.0), "row": EDM(0.5), "clock": LogSNRClock(-0.125), "density": LogNormal(-1.2, 1.2),
    "weighting": EDMWeighting(0.5), "label_dropout": 0.0, "optimizer": AdamW(0.9, 0.999, 0.0),
    "transforms": (NanToNum(),), "clip": None, "batch": 512, "memory_format": "channels_last", "rate": Constant(warmup=1),
}  # fmt: skip

TRAINED: dict[str, Trained] = {
    "DiT-XL/2": _dit("XL/2", 256),
    "DiT-B/2": _dit("B/2", 256),
    "DDPM++": Trained(_ddpmpp, _pictures, _EDM),
    "DDPM++-augmented": Trained(_ddpmpp, _pictures, {**_EDM, "augment": EDMAugment()}),
}


def filled(network: Network) -> Network:
    """A network without weights that are all zero, as after some training: products of zeros are faster than those of numbers."""
    with torch.no_grad():
        for parameter in network.parameters():
            if not bool(parameter.any()):
                parameter.normal_(std=0.02)
    return network


def recipe_of(name: str, small: bool, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A run of a network of TRAINED.

    Args:
        name: which.
        small: tiny, on smaller pictures, eight at a time, and not compiled.
        changes: of the recipe.
    """
    trained = TRAINED[name]
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "data": trained.data(small), "backbone": filled(trained.make(small)), "steps": 100_000, "precision": "bf16", "warmup": 1,
        "compile": None if small else "blocks", "sampling_steps": 2, "tracker": None, **trained.recipe, **({"batch": 8} if small else {}),
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

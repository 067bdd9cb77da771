"""How long a step of the trainer waits for its data, where no process reads ahead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from ...diffusion import ArrayData, DiT, ImageFolder, LatentArray, Recipe, UNet
from ...diffusion.feed import Feed, Read
from ...diffusion.interrupt import Told
from ...diffusion.run import Run
from ...schedules import Flow, RectifiedFlow
from .data_files import CLASSES, draw_pictures, write_array, write_images, write_latents
from .sheet import Sheet, exact, ratio_of

__all__ = ["Watched", "stalls"]


class Watched:
    """A feed, and the seconds that its reader waited for it since the last look.

    Args:
        feed: of a run.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed, self.waited, self.pictures = feed, 0.0, 0

    def __call__(self, step: int) -> Iterator[Read]:
        reads = self._feed(step)
        while True:
            began = time.perf_counter()
            read = next(reads, None)
            self.waited += time.perf_counter() - began
            if read is None:
                return
            self.pictures += len(read.places)
            yield read

    def close(self) -> None:
        """As that of the feed."""
        self._feed.close()


def _subjects(folder: Path, count: int, small: bool) -> dict[str, tuple[Any, nn.Module]]:
    """Data, each with a network of its kind; small: in a tiny version."""
    pictures = draw_pictures(count, 64)
    write_images(pictures, folder / "stall-png", "png")
    write_array(pictures, folder / "stall-array")
    write_latents(count, 8, folder / "stall-latents")
    width, depth = (16, 1) if small else (128, 6)

    def pixels() -> nn.Module:
        return DiT(3, 64, CLASSES, patch=8, width=width, depth=depth, heads=4)

    at = folder / "stall-array"
    array = ArrayData(str(at / "x.npy"), str(at / "labels.npy"), CLASSES)
    unet = UNet(3, 64, CLASSES, width=8, multipliers=(1, 2), blocks=1, attention=()) if small else UNet(
        3, 64, CLASSES, width=32, multipliers=(1, 2, 2), blocks=1, attention=()
    )  # fmt: skip
    return {
        "ImageFolder, PNG, DiT": (ImageFolder(str(folder / "stall-png"), 64), pixels()),
        "ArrayData, DiT": (array, pixels()),
        "ArrayData, UNet": (array, unet),
        "LatentArray, DiT": (LatentArray(str(folder / "stall-latents")), DiT(4, 8, CLASSES, patch=1, width=width, depth=depth, heads=4)),
    }  # fmt: skip


def stalls(quick: bool, folder: Path, sheet: Sheet) -> None:
    """Add a row for each kind of data: steps of a run as `sfumato train` makes them, and the share of a step that is reading.

    Args:
        quick: tiny networks, few pictures and two steps.
        folder: where data and runs are written.
        sheet: of the bench.
    """
    steps, batch = (2, 8) if quick else (9, 64)
    for number, (name, (data, network)) in enumerate(_subjects(folder, batch * 4, quick).items()):
        recipe = Recipe(
            data=data, backbone=network, schedule=RectifiedFlow(), row=Flow(), steps=1000, batch=batch, warmup=1, threads=1,
            sampling_steps=2, tracker=None,
        )  # fmt: skip
        run = Run(recipe, folder / f"run-{number}", Told())
        try:
            run.update.feed = watched = Watched(run.update.feed)  # pyright: ignore[reportAttributeAccessIssue]
            run.backbone.train()
            run.make()  # makes the optimizer's state
            waits: list[float] = []
            took: list[float] = []
            for _ in range(steps):
                watched.waited, watched.pictures, began = 0.0, 0, time.perf_counter()
                run.make()
                took.append(time.perf_counter() - began)
                waits.append(watched.waited)
        finally:
            run.close()
        parameters = sum(p.numel() for p in network.parameters())
        sheet.add(f"stall, {name}", {
            "of the step": ratio_of(waits, took, "%"), "step": ratio_of(took, [1.0] * steps, "s"),
            "pictures": exact(watched.pictures), "parameters": exact(parameters),
        })  # fmt: skip

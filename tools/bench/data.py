"""What reading costs: pictures per CPU second from every form of data, beside a folder of images read as everybody does."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ...diffusion import ArrayData, HuggingFace, ImageFolder, LatentArray
from ...diffusion.feed import Feed
from .data_files import CLASSES, draw_pictures, write_array, write_images, write_latents
from .data_stall import stalls
from .goals import Goal
from .kind import Ask, Kind
from .peers import installed
from .sheet import Cell, Sheet, exact, ratio_of
from .timing import times

__all__ = ["READING", "Everybody", "Reader", "calls", "readers"]

SIZE, BATCH = 64, 64
FOLDER, RATE = "a loop over DataLoader, PNG", 3400.0
"""What the others are held against; and the pictures per second at which DiT-B/2 would train at 60 % of an H200."""


class Everybody(Dataset[tuple[Tensor, int]]):
    """A folder of images as tutorials write it: one file at a time, in [-1, 1]; collated by the DataLoader."""

    def __init__(self, root: Path) -> None:
        self._files = sorted(root.glob("*/*"))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        file = self._files[index]
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1, int(file.parent.name)


class Reader(NamedTuple):
    """One pass over all pictures, in batches; how many there are; the bytes that a picture takes on the disk."""

    batches: Callable[[], Iterator[Tensor]]
    pictures: int
    size: float


def _everybody(root: Path) -> Callable[[], Iterator[Tensor]]:
    loader = DataLoader(Everybody(root), BATCH, shuffle=True)
    return lambda: (x for x, _ in loader)


def _as_trained(data: Any) -> Callable[[], Iterator[Tensor]]:
    """As the trainer reads: in its order, seeded for each batch, in its own process."""
    steps = len(data) // BATCH
    feed = Feed(data, 0, [range(BATCH)], BATCH, steps)
    return lambda: (read.batch.x for step in range(steps) for read in feed(step))


def _resident(x: Tensor) -> Callable[[], Iterator[Tensor]]:
    """The least there is to do: rows of an array in memory."""
    return lambda: (x[index].float() for index in torch.randperm(len(x)).split(BATCH))


def readers(folder: Path, count: int, latents: int) -> dict[str, Reader]:
    """Every form of `count` pictures of 64x64, and of latents of theirs and of pictures of 256x256.

    Args:
        folder: where the files are written.
        count: of pictures, a multiple of 64. latents: likewise, of latents, which are read in less time than a clock wants.
    """
    pictures = draw_pictures(count, SIZE)
    found: dict[str, Reader] = {}
    for suffix in ("png", "jpg"):
        size = write_images(pictures, folder / suffix, suffix) / count
        name = {"png": "PNG", "jpg": "JPEG"}[suffix]
        found[f"a loop over DataLoader, {name}"] = Reader(_everybody(folder / suffix), count, size)
        found[f"ImageFolder, {name}"] = Reader(_as_trained(ImageFolder(str(folder / suffix), SIZE)), count, size)
    size = write_array(pictures, folder / "array") / count
    array = ArrayData(str(folder / "array" / "x.npy"), str(folder / "array" / "labels.npy"), CLASSES)
    found["ArrayData, uint8"] = Reader(_as_trained(array), count, size)
    for name, side in (("4x8x8, as of 64x64", 8), ("4x32x32, as of 256x256", 32)):
        at = folder / f"latents-{side}"
        size = write_latents(latents, side, at) / latents
        found[f"LatentArray {name}"] = Reader(_as_trained(LatentArray(str(at))), latents, size)
        bare = _as_trained(LatentArray(str(at), sample=False))
        found[f"LatentArray {name}, without spread"] = Reader(bare, latents, size / 2)
    rows = torch.from_numpy(np.load(folder / "latents-8" / "mean.npy", allow_pickle=False))
    found["rows of a tensor in memory, 4x8x8"] = Reader(_resident(rows), latents, rows[0].nbytes)
    if installed("datasets"):
        stored = importlib.import_module("datasets").load_dataset(
            "imagefolder", data_dir=str(folder / "png"), split="train"
        )
        stored.save_to_disk(str(folder / "datasets"))
        data = HuggingFace(str(folder / "datasets"), label="label", size=SIZE)
        found["HuggingFace, PNG"] = Reader(_as_trained(data), count, found[FOLDER].size)
    return found


def calls(reader: Reader) -> float:
    """Calls of Python and of C functions per picture, in the thread that reads; of some versions of Python and its libraries."""
    made = [0]

    def note(frame: object, event: str, given: object) -> None:
        made[0] += event in ("call", "c_call")

    for _ in reader.batches():  # what is worked out once
        pass
    sys.setprofile(note)
    try:
        for _ in reader.batches():
            pass
    finally:
        sys.setprofile(None)
    return made[0] / reader.pictures


def _through(reader: Reader) -> Callable[[], None]:
    def run() -> None:
        for _ in reader.batches():
            pass

    return run


def _rates(ask: Ask, sheet: Sheet, folder: Path) -> None:
    count, latents, rounds = (64, 64, 1) if ask.quick else (512, 8192, 7)
    if not installed("datasets"):
        sheet.lacks("HuggingFace", "datasets is not installed")
    found = readers(folder, count, latents)
    taken = times({name: _through(reader) for name, reader in found.items()}, rounds, cuda=False)
    per = {name: [t / found[name].pictures for t in seconds] for name, seconds in taken.items()}
    for name, reader in found.items():
        sheet.add(name, {
            "pictures per CPU second": ratio_of([1.0] * rounds, per[name], "img/s"), "times the folder": ratio_of(per[FOLDER], per[name]),
            "bytes per picture": exact(reader.size), "calls per picture": Cell(calls(reader), unit=""),
            f"of a core, at {RATE:,.0f} a second": ratio_of(per[name], [1 / RATE] * rounds, "%"),
        })  # fmt: skip


def _measure(ask: Ask, sheet: Sheet) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if ask.only in (None, "reading"):
            sheet.say("reading alone, as training reads; nothing is drawn, nothing goes to a device")
            _rates(ask, sheet, Path(folder))
        if ask.only in (None, "stall"):
            sheet.say("steps of the trainer: how much of one is reading, where no process reads ahead")
            stalls(ask.quick, Path(folder), sheet)


READING = Kind(
    _measure, ("reading", "stall"),
    goals=(
        Goal("latents beside a folder of PNG", "data", "LatentArray 4x8x8, as of 64x64", "times the folder", 15.0, at_most=False),
        Goal("reading, of a step of a DiT of 1.9 M parameters on latents", "data", "stall, LatentArray, DiT", "of the step", 0.01),
    ),
)  # fmt: skip

"""A folder of generated pictures: what is in it, and how it came there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..samplers.filters import Filter
from .picture_folder import Job, PictureFolder
from .samples import Samples, file_names
from .stored_samples import stored_samples

__all__ = ["Generated", "Share"]


@dataclass(frozen=True)
class Generated:
    """What lies in a folder of generated pictures; the same in every process.

    folder: where. job: what was asked for. filters: that were asked. count: pictures asked for. made: of them, made by this call. found:
    there already. lost: slots that ran out of retries, which hold no picture; made + found + lost is count. kept: pictures that all
    filters keep. evaluations: of the network, by branch, over all slots, lost attempts and filters included. seconds: that this call took.
    """

    folder: Path
    job: Job
    filters: tuple[Filter, ...]
    count: int
    made: int
    found: int
    lost: int
    kept: int
    evaluations: dict[str, int]
    seconds: float

    @property
    def pictures(self) -> int:
        """How many there are."""
        return self.made + self.found

    @property
    def settings(self) -> dict[str, Any]:
        """What all pictures were made with, JSON-able."""
        return dict(self.job.settings)

    @property
    def paths(self) -> list[Path | None]:
        """The file of each seed, in their order; None: it ran out of retries."""
        there = set(os.listdir(self.folder))
        return [self.folder / name if name in there else None for name in file_names(self.job.seeds.tolist())]

    @cached_property
    def samples(self) -> Samples:
        """As `Model.sample` returns them, with pictures that are read when they are looked at. Before `finish`, where filters were asked.

        Raises:
            OSError: for pictures that are gone by now.
        """
        return stored_samples(self.folder, self.job, self.filters)

    def finish(self) -> None:
        """Remove what filters rejected, by which a call that goes on with it knows that nothing is missing; in one process."""
        PictureFolder(self.folder).finish()


class Share:
    """What a process knows of the slots that it has seen to.

    Args:
        job: all of the slots.
    """

    def __init__(self, job: Job) -> None:
        self._names, self._slots = file_names(job.seeds.tolist()), list[int]()
        self._lost: set[int] = set()
        self.kept, self.spent = 0, torch.zeros(len(job.branches), dtype=torch.int64)

    @property
    def count(self) -> int:
        """Slots so far."""
        return len(self._slots)

    def known(self, store: PictureFolder, slots: Sequence[int], retries: int) -> bool:
        """Note slots of which nothing is missing; returns whether it was so.

        Args:
            store: the folder.
            slots: a chunk.
            retries: how often a picture is tried again.
        """
        there = [store.last(slot, retries) for slot in slots]
        found = [last for last in there if last is not None]
        if len(found) < len(there):
            return False
        self._slots += slots
        self._lost |= {slot for slot, last in zip(slots, found, strict=True) if last.path.parent != store.folder}
        self.kept += sum(last.kept for last in found)
        self.spent += torch.tensor([last.evaluations for last in found]).sum(0)
        return True

    def made(self, slots: Sequence[int], samples: Samples) -> None:
        """Note slots that were sampled.

        Args:
            slots: a chunk.
            samples: of it.
        """
        self._slots += slots
        self._lost |= {slot for slot, there in zip(slots, samples.pictured.tolist(), strict=True) if not there}
        self.kept += int(samples.kept.sum())
        self.spent += samples.evaluations.sum(0)

    def pictures(self, folder: Path) -> int:
        """How many of these slots' pictures are there.

        Args:
            folder: of the pictures.

        Raises:
            OSError: where one is not there that was not given up.
        """
        there = set(os.listdir(folder))
        absent = [slot for slot in self._slots if self._names[slot] not in there]
        if gone := [self._names[slot] for slot in absent if slot not in self._lost]:
            raise OSError(
                f"{len(gone)} pictures that were made are no longer in {folder}, such as {gone[0]}: something removes them; see to it, and "
                "make them again by resuming"
            )
        return len(self._slots) - len(absent)

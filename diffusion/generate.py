"""Many pictures, made by one process or several, into a folder that a job can be gone on with."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..guidance import Guidance, for_pictures
from ..samplers import Sampler
from ..samplers.filters import Filter
from ..schedules import Grid
from ..schedules.noise import Seeds
from ..schedules.plain_json import to_json
from .conditions import Labels
from .denoiser import Denoiser
from .folder_part import FolderPart
from .generated import Generated, Share
from .in_turns import InTurns
from .launch import Processes
from .model import Model
from .picture_folder import Job, PictureFolder
from .plan import is_picture
from .progress import progress_bar
from .prompts import Prompts
from .warned import Diverged, Foreseen, Rejected

__all__ = ["Generated", "generate"]

BATCHES = 8
"""Batches of a chunk where filters reject pictures, so that what is tried again fills a batch too."""

NAMED = 8
"""Seeds that a message names."""


def generate(
    model: Model, folder: str | Path, seeds: Seeds, labels: Labels | None = None, *,
    prompts: Prompts | None = None, also: Mapping[str, Labels | Prompts | int | None] | None = None,
    weak: Model | Denoiser | None = None, steps: int | None = None, sampler: Sampler | None = None, grid: Grid | None = None,
    guidance: Guidance | None = None, filters: Sequence[Filter] = (), retries: int = 8, batch: int = 64, strict: bool = False,
    brownian: bool = False, mark: bool = False, resume: bool = False, chunk: int | None = None, processes: Processes | None = None,
    progress: bool = False,
) -> Generated:  # fmt: skip
    """One PNG file per seed in a folder, made in chunks that processes share; memory holds the pictures of one chunk.

    Chunks do not depend on how many processes there are, so batches hold the same pictures, and files are the same to the last bit for any
    number of equal processes with as many threads, also of a job that was stopped or killed and gone on with by another number.

    Args:
        model: on the device of this process.
        folder: where to; it is made.
        seeds, labels, prompts, also, weak, steps, sampler, grid, guidance, filters, retries, batch, strict, brownian, mark: as in
            `Model.sample`; what is one per seed is cut along with the seeds.
        resume: make what is missing in a folder that was begun by the same call.
        chunk: seeds of one call of `Model.sample`, >= 1; None: a batch, or 8 where filters have rejected pictures tried again.
        processes: that share the work, each of which calls this with the same; None: this one alone.
        progress: show a bar, for all processes.

    Raises:
        ValueError: what `Model.sample` refuses; samples that are no pictures; a folder that holds pictures, or those of another job;
            where another process failed.
        FloatingPointError: when the network returns numbers that are not finite.
        OSError: when pictures can't be written, or are gone at the end; when another process was told to stop, or is gone.
    """
    began, turns, folder = time.monotonic(), InTurns(processes), Path(folder)
    filters = [filters] if isinstance(filters, Filter) else list(filters)
    how: dict[str, Any] = {
        "weak": weak, "steps": steps, "grid": grid, "filters": filters, "retries": retries, "batch": batch, "strict": strict,
        "brownian": brownian, "mark": mark,
    }  # fmt: skip
    store, heard = PictureFolder(folder, resume), _Heard()
    with turns.together():
        _check(model, batch, chunk)
        with heard.before(turns.main):
            job = _asked(
                model,
                seeds,
                labels,
                {"prompts": prompts, "also": also, "sampler": sampler, "guidance": guidance, **how},
            )
        if turns.main and not resume and store.holds_pictures():
            raise ValueError(
                f"folder is {str(folder)!r}, which holds pictures already; choose another folder, or make what is missing there with resume"
            )
        if turns.main:
            folder.mkdir(parents=True, exist_ok=True)
            store.sweep()  # while nobody writes
    if turns.count > 1:
        turns.same(
            "what is asked for", json.dumps(to_json([job.settings, job.own, job.seeds.tolist(), retries, chunk]))
        )
    count = len(job.seeds)
    size = chunk or batch * (BATCHES if filters and retries and not mark else 1)
    chunks = [range(first, min(first + size, count)) for first in range(0, count, size)]
    with turns.together():
        if not folder.is_dir():
            raise OSError(f"process {turns.rank} does not see {folder}; it must lie on a file system that all share")
        store.begin(job, lambda slot: slot // size % turns.count == turns.rank)
    share, alone = Share(job), turns.count == len(chunks) == 1  # then the model's own bar says more
    bar = progress_bar(count, 0, "sampling", progress and turns.main and not alone, leave=False, unit="picture")
    try:
        for piece in turns.mine(len(chunks)):
            with turns.together():
                if piece is not None and not share.known(store, slots := chunks[piece], 0 if mark else retries):
                    part = FolderPart(
                        store, slots, lambda pictures: bar.update(min(pictures * turns.count, count - bar.n))
                    )
                    with heard.meanwhile():
                        samples = model.sample(
                            job.seeds[slots.start : slots.stop], _cut(labels, slots), prompts=_cut(prompts, slots),
                            also=None if also is None else {name: _cut(given, slots) for name, given in also.items()},
                            sampler=for_pictures(sampler, slots), guidance=for_pictures(guidance, slots), folder=part,
                            progress=progress and alone, **how,
                        )  # fmt: skip
                    share.made(slots, samples)
            if progress:
                bar.update(turns.total([share.count])[0] - bar.n)
    finally:
        bar.close()
    with turns.together():
        here = share.pictures(folder)
    there, found, kept, far, *spent = turns.total(
        [here, store.found, share.kept, len(heard.diverged), *share.spent.tolist()]
    )
    seconds = time.monotonic() - began
    generated = Generated(
        folder, job, tuple(filters), count, there - found, found, count - there, kept, dict(zip(job.branches, spent, strict=True)),
        seconds,
    )  # fmt: skip
    named = turns.listed(heard.diverged, NAMED)
    if turns.main and far:
        told = f"{sampler or model.sampler} in {steps or model.steps} steps under {guidance or model.guidance}"
        warnings.warn(Diverged(named, count, told, far), stacklevel=2)
    if turns.main and filters:
        generated.samples.filtered.warn(0 if mark else count - there, count, retries, stacklevel=2)
    return generated


def _check(model: Model, batch: int, chunk: int | None) -> None:
    """Refuse what would be refused later."""
    if not is_picture(model.picture_shape) or (model.latents and model.vae is None):
        raise ValueError(
            f"samples of this model are of shape {tuple(model.shape)}, which are no pictures; of latents give the folder of their VAE, as "
            "load(..., vae=...)"
        )
    for name, value in (("batch", batch), ("chunk", 1 if chunk is None else chunk)):
        if value < 1:
            raise ValueError(f"{name} is {value}; allowed: >= 1")


def _asked(model: Model, seeds: Seeds, labels: Labels | None, how: Mapping[str, Any]) -> Job:
    """What `Model.sample` would be about to do, asked of itself, so that all it refuses is refused before anything is made."""
    told = model if model.text is None else replace(model, text=_Unread())
    try:
        told.sample(seeds, labels, folder=_Asking("."), **how)
    except _Begun as begun:
        # a device's number is that of a process
        return replace(begun.job, settings={**begun.job.settings, "device": model.device.type})
    raise AssertionError("sampling has not begun")


class _Begun(Exception):
    """Sampling would begin."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job


class _Asking(PictureFolder):
    """Knows what would be sampled, and lets nothing be."""

    def begin(self, job: Job, looks: object = None) -> None:
        raise _Begun(job)


class _Unread:
    """Encodes no prompt, where only their number matters."""

    def encode(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        return {"prompt": torch.zeros(len(prompts), 1)}


def _cut(given: Any, slots: range) -> Any:
    """Of what is one per seed those of some slots; what is for all stays."""
    return given if given is None or isinstance(given, str | int) else given[slots.start : slots.stop]


class _Heard:
    """What was warned of, said once for all chunks. diverged: seeds of pictures."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self.diverged: list[int] = []

    @contextmanager
    def before(self, main: bool) -> Iterator[None]:
        """Around what is known beforehand; said by the main process."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for each in caught:
            self._say(each.message, main)

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        """Around a chunk."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for each in caught:
            if isinstance(each.message, Diverged):
                self.diverged += each.message.seeds
            elif not isinstance(each.message, Foreseen | Rejected):
                self._say(each.message, True)

    def _say(self, message: Warning | str, aloud: bool) -> None:
        if str(message) not in self._said and aloud:
            warnings.warn(message, stacklevel=5)  # who called `generate`
        self._said.add(str(message))

"""Many pictures, made by one process or several, into a folder that a job can be gone on with."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..guidance import Guidance
from ..samplers import Sampler
from ..samplers.filters import Filter
from ..schedules import Grid
from ..schedules.noise import Seeds
from .conditions import Labels
from .denoiser import Denoiser
from .launch import Processes
from .model import Model
from .picture_folder import PictureFolder
from .prompts import Prompts

__all__ = ["Generated", "generate"]


@dataclass(frozen=True)
class Generated:
    """What lies in a folder of generated pictures; the same in every process.

    folder: where. count: pictures asked for. made: of them, made by this call. found: there already. lost: slots that ran out of retries,
    which hold no picture, so that made + found + lost is count. kept: pictures that all filters keep. evaluations: of the network, by
    branch, over all pictures, lost attempts included. seconds: that this call took. settings: shared by all pictures.
    """

    folder: Path
    count: int
    made: int
    found: int
    lost: int
    kept: int
    evaluations: dict[str, int]
    seconds: float
    settings: dict[str, Any]


def generate(
    model: Model, folder: str | Path, seeds: Seeds, labels: Labels | None = None, *,
    prompts: Prompts | None = None, also: Mapping[str, Labels | Prompts | int | None] | None = None,
    weak: Model | Denoiser | None = None, steps: int | None = None, sampler: Sampler | None = None, grid: Grid | None = None,
    guidance: Guidance | None = None, filters: Sequence[Filter] = (), retries: int = 8, batch: int = 64, strict: bool = False,
    brownian: bool = False, mark: bool = False, resume: bool = False, chunk: int | None = None, processes: Processes | None = None,
    progress: bool = False,
) -> Generated:  # fmt: skip
    """Pictures as PNG files, one per seed, made in chunks that processes share, each file as soon as its batch is finished."""
    began = time.monotonic()
    samples = model.sample(
        seeds, labels, prompts=prompts, also=also, weak=weak, steps=steps, sampler=sampler, grid=grid, guidance=guidance, filters=filters,
        retries=retries, batch=batch, strict=strict, brownian=brownian, mark=mark, progress=progress, folder=(store := PictureFolder(folder, resume)),
    )  # fmt: skip
    there = int(samples.pictured.sum())
    return Generated(
        Path(folder), len(samples), there - store.found, store.found, len(samples) - there, int(samples.kept.sum()),
        dict(zip(samples.branches, samples.evaluations.sum(0).tolist(), strict=True)), time.monotonic() - began, samples.settings,
    )  # fmt: skip

"""Samples that lie in a folder, as many as there are: numbers are read at once, pictures when they are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from ..samplers.filters import Filter
from .filtered import MOST, Filtered, Try, summed_up
from .images import read_picture, read_settings
from .picture_folder import Job, rejected_attempts
from .samples import Samples, file_names

__all__ = ["stored_samples"]


def stored_samples(folder: Path, job: Job, filters: Sequence[Filter]) -> Samples:
    """What `Model.sample` returns, read from the files that it wrote, with pictures in steps of 2 / 255.

    Args:
        folder: of the pictures; finished, and not cleared of what filters rejected.
        job: what was sampled.
        filters: that were asked.

    Raises:
        OSError: for a picture that is neither there nor rejected.
    """
    names, count = file_names(job.seeds.tolist()), len(job.seeds)
    rejected = rejected_attempts(folder) if filters else {}
    there = {path.name for path in folder.glob("seed-*.png")}
    paths = [folder / name if name in there else None for name in names]
    attempts, kept = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
    spent = torch.zeros(count, len(job.branches), dtype=torch.int64)
    scores = tuple(torch.full((count,), math.nan) for _ in filters)
    tries: list[Try] = []
    bad: list[tuple[int, int, Path]] = []
    seen: set[int] = set()

    def note(slot: int, path: Path) -> None:
        found = read_settings(path)
        own = tuple(float(found["scores"][name]) for name in job.filters)
        seen.add(slot)
        attempts[slot], kept[slot] = int(found["attempt"]), bool(found["kept"])
        spent[slot] = torch.tensor([int(found["evaluations"][name]) for name in job.branches])
        for score, value in zip(scores, own, strict=True):
            score[slot] = value
        if filters:
            tries.append(Try(slot, int(found["attempt"]), bool(found["kept"]), own, str(found["reason"])))
            if not found["kept"]:
                bad.append((slot, int(found["attempt"]), path))

    for (slot, _), path in rejected.items():  # in the order of attempts, so that the last one stays
        if slot < count:
            note(slot, path)
    for slot, path in enumerate(paths):
        if path is not None:
            note(slot, path)
    if missing := [names[slot] for slot in range(count) if slot not in seen]:
        raise OSError(f"{len(missing)} of {count} pictures are not in {folder}, such as {missing[0]}")
    shown = [(slot, attempt, read_picture(path)[0]) for slot, attempt, path in sorted(bad)[:MOST]]
    prompts = tuple(own["prompt"] for own in job.own) if job.own and "prompt" in job.own[0] else None
    return Samples(
        cast(Tensor, _Pictures(paths, job.shape)), job.seeds, job.labels, attempts, kept, spent, job.branches, scores,
        dict(job.settings), tuple(dict(own) for own in job.own),
        summed_up(filters, tries, shown) if filters else Filtered(),
        prompts,
    )  # fmt: skip


@dataclass(frozen=True)
class _Pictures:
    """As much of a tensor (N, C, H, W) as is asked of samples that are looked at; a slot without a picture is nan."""

    paths: Sequence[Path | None]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, at: int | slice) -> Tensor:
        if isinstance(at, slice):
            return torch.stack([self[i] for i in range(*at.indices(len(self)))])
        path = self.paths[at]
        return torch.full(self.shape, torch.nan) if path is None else read_picture(path)[0]

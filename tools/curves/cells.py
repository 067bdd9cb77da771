"""Cells: one sampler on one grid within one budget, on one block of seeds, each kept as soon as it is measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...diffusion.progress import progress_bar
from ...diffusion.whole_file import replace_text, whole_file
from ...samplers import Sampler
from ...schedules import Grid
from ...schedules.parts import describe
from .budgets import steps_within
from .subject import Block, Ends, Subject

__all__ = ["Line", "keeper", "measure"]


@dataclass(frozen=True)
class Line:
    """A sampler on a grid within a budget.

    sampler, grid: names. budget: evaluations allowed per picture. steps, cost: the most steps that fit, and what they cost; 0 where none
    fit. draws: whether it is stochastic. ends: one per block of seeds; empty where nothing could be measured. why: the reason then.
    """

    sampler: str
    grid: str
    budget: int
    steps: int
    cost: int
    draws: bool
    ends: tuple[Ends, ...]
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.sampler} on {self.grid}"

    @property
    def trouble(self) -> str:
        """Why it may lead nothing, in words; empty where it may."""
        if self.why:
            return self.why
        failed = next((e.failed for e in self.ends if e.failed), None)
        if failed:
            return failed
        count = sum(e.diverged for e in self.ends)
        return f"{count} pictures diverged" if count else ""


def keeper(folder: Path, about: Mapping[str, Any]) -> Callable[[str, Callable[[], Tensor]], Tensor]:
    """Tensors that are kept in a folder, by name and by what they depend on.

    Args:
        folder: where.
        about: what they depend on, JSON-able.
    """
    mark = _hash(about)

    def kept(name: str, make: Callable[[], Tensor]) -> Tensor:
        file = folder / f"{_hash({'name': name, 'of': mark})}.npy"
        with suppress(OSError, ValueError, EOFError):  # one that is damaged is made again
            return torch.from_numpy(np.load(file, allow_pickle=False))
        folder.mkdir(parents=True, exist_ok=True)
        found = make()
        with whole_file(file) as part, part.open("wb") as open_file:
            np.save(open_file, found.numpy())
        return found

    return kept


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:20]


def measure(
    subject: Subject, samplers: Mapping[str, Sampler], grids: Mapping[str, Grid], budgets: Sequence[int], blocks: Sequence[Block],
    folder: Path, progress: bool = False,
) -> list[Line]:  # fmt: skip
    """Every sampler on every grid within every budget; what lies in the folder is not measured twice.

    Args:
        subject: what is sampled.
        samplers, grids: by name.
        budgets: evaluations per picture.
        blocks: of seeds, the same for all.
        folder: of the cells.
        progress: show a bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = {"about": subject.about, "version": version("sfumato"), "torch": str(torch.__version__)}
    bar = progress_bar(
        len(samplers) * len(grids) * len(budgets) * len(blocks), 0, "cells", progress, leave=False, unit="cell"
    )
    found: list[Line] = []
    try:
        for name, grid_name, budget in _all(samplers, grids, budgets):
            bar.set_description(f"{name} on {grid_name}, {budget}")
            found.append(
                _line(subject, common, name, samplers[name], grid_name, grids[grid_name], budget, blocks, folder)
            )
            bar.update(len(blocks))
    finally:
        bar.close()
    return found


def _stored(file: Path) -> Ends | None:
    """What a cell came to; None where it is not there, or damaged."""
    try:
        return Ends(**json.loads(file.read_text())["ends"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _all(
    samplers: Mapping[str, Sampler], grids: Mapping[str, Grid], budgets: Sequence[int]
) -> Iterator[tuple[str, str, int]]:
    return ((name, grid, budget) for name in samplers for grid in grids for budget in budgets)


def _line(
    subject: Subject, common: Mapping[str, Any], name: str, sampler: Sampler, grid_name: str, grid: Grid, budget: int,
    blocks: Sequence[Block], folder: Path,
) -> Line:  # fmt: skip
    def nothing(why: str) -> Line:
        return Line(name, grid_name, budget, 0, 0, bool(sampler.draws), (), why)

    try:
        fit = steps_within(lambda steps: subject.cost(sampler, grid, steps), budget)
    except (ValueError, FloatingPointError) as error:
        return nothing(f"refused: {error}")
    if fit is None:
        return nothing("not one step fits")
    steps, cost = fit
    ends: list[Ends] = []
    for block in blocks:
        of = {**common, "sampler": describe(sampler), "grid": describe(grid), "steps": steps, "block": asdict(block)}
        file = folder / f"{_hash(of)}.json"
        if (known := _stored(file)) is not None:
            ends.append(known)
            continue
        try:
            ends.append(subject.ends(sampler, grid, steps, block))
        except ValueError as error:
            return nothing(f"refused: {error}")
        replace_text(file, json.dumps({"of": of, "ends": asdict(ends[-1])}, default=str))
    return Line(name, grid_name, budget, steps, cost, bool(sampler.draws), tuple(ends))

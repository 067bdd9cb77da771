"""The pictures of one cell, and the fine solution that they are compared with."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...diffusion import Model, Samples
from ...diffusion.measuring import as_bytes
from ...diffusion.probe import probe
from ...guidance import CFGPlusPlus, Guidance, rules_within
from ...samplers import DPMSolverPP, Sampler, on_path
from ...samplers.filters import Filter
from ...schedules import Grid, Trailing
from ..overheard import overheard
from .store import Stored

__all__ = ["Drawn", "Way", "evaluations_of", "fine_way", "make", "make_fine"]


@dataclass(frozen=True)
class Way:
    """How pictures are sampled.

    sampler, grid, guidance, filters: parts. steps: how many. brownian: whether noise is that of one Brownian motion.
    """

    sampler: Sampler
    grid: Grid
    guidance: Guidance
    steps: int
    filters: Sequence[Filter] = ()
    brownian: bool = False


@dataclass(frozen=True)
class Drawn:
    """Which pictures: the same in every cell, but for what its axes move.

    seeds: one per picture. labels, prompts: one per picture, or None. also: of further branches. weak: a weaker model.
    """

    seeds: Sequence[int]
    labels: Sequence[int | None] | None = None
    prompts: Sequence[str] | None = None
    also: Mapping[str, Any] | None = None
    weak: Model | None = None

    def first(self, count: int) -> Drawn:
        """The first of them."""
        also = None if self.also is None else {k: v[:count] if isinstance(v, list) else v for k, v in self.also.items()}
        labels = None if self.labels is None else self.labels[:count]
        return Drawn(
            self.seeds[:count], labels, None if self.prompts is None else self.prompts[:count], also, self.weak
        )


def evaluations_of(model: Model, way: Way, drawn: Drawn) -> int:
    """How often the network is asked per picture: walked with networks that answer at once. Filters and further attempts are not in it.

    Args:
        model: whose path.
        way, drawn: what is sampled.

    Raises:
        ValueError: what the parts refuse.
    """
    shape = model.shape
    names = [
        *model.conditions(
            drawn.labels and list(drawn.labels), len(drawn.seeds), drawn.also, drawn.prompts and list(drawn.prompts)
        )
    ]
    names += [] if drawn.weak is None else ["weak"]
    levels = way.grid(model.denoiser.schedule, way.steps)
    walker = on_path(way.sampler, model.denoiser.schedule)
    return sum(probe(way.guidance, names, walker, levels, shape, len(drawn.seeds), learns=True).values())


def fine_way(model: Model, way: Way, grid: Grid, steps: int) -> Way:
    """The fine solution of what a cell solves: deterministic, or along the same Brownian motion.

    DPM-Solver++(2M) in many steps, since DDIM's are of first order: in 1000 steps it is further from the solution than good methods in 100.

    Args:
        model: whose path.
        way: of the cell.
        grid: of the comparison, on which it is walked; one that has no such steps is replaced by Trailing().
        steps: how many.

    Raises:
        ValueError: where it has none, in a few words.
    """
    noisy = bool(on_path(way.sampler, model.denoiser.schedule).draws)
    if noisy and not way.brownian:
        raise ValueError("draws noise, so its pictures are others; --brownian makes them comparable")
    for part in (way.guidance, way.sampler):
        if any(rule.per == "step" for rule, _ in rules_within(part, CFGPlusPlus)):
            raise ValueError("CFG++ per step is another guidance in another number of steps")
    if not _empty(way.guidance.init(torch.zeros(1, *model.shape))):
        raise ValueError("a rule that remembers steps is another rule in another number of steps")
    schedule = model.denoiser.schedule
    try:
        grid(schedule, steps)
    except ValueError:
        grid = Trailing()
        grid(schedule, steps)
    return Way(way.sampler if noisy else DPMSolverPP(2), grid, way.guidance, steps, (), noisy)


def _empty(tree: Any) -> bool:
    """Whether a memory holds nothing."""
    if isinstance(tree, Mapping):
        return all(map(_empty, tree.values()))
    return tree is None or (isinstance(tree, list | tuple) and all(map(_empty, tree)))


def _sample(model: Model, way: Way, drawn: Drawn, options: Mapping[str, Any]) -> Samples:
    return model.sample(
        list(drawn.seeds), drawn.labels and list(drawn.labels), prompts=drawn.prompts and list(drawn.prompts), also=drawn.also,
        weak=drawn.weak, steps=way.steps, sampler=way.sampler, grid=way.grid, guidance=way.guidance, filters=list(way.filters),
        brownian=way.brownian and bool(on_path(way.sampler, model.denoiser.schedule).draws), **options,
    )  # fmt: skip


def make_fine(model: Model, way: Way, drawn: Drawn, options: Mapping[str, Any]) -> Stored:
    """The pictures of a fine solution, exact.

    Args:
        model, way, drawn: what is sampled.
        options: further ones of `Model.sample`.

    Raises:
        ValueError, FloatingPointError: as `Model.sample`.
    """
    with overheard(lambda warning: None):
        found = _sample(model, way, drawn, options)
    return Stored({}, {"exact": found.images.float().cpu().numpy()})


def make(model: Model, way: Way, drawn: Drawn, near: int, options: Mapping[str, Any]) -> Stored:
    """The pictures of a cell, and what is known of how they came about. A walk that ends in numbers that are not finite is kept as such.

    Args:
        model, way, drawn: what is sampled.
        near: of how many pictures the exact numbers are kept, beside their bytes.
        options: further ones of `Model.sample`.

    Raises:
        ValueError: for what can't be sampled so.
    """
    began = _now(model)
    heard: list[str] = []
    with overheard(lambda warning: heard.append(str(warning))):
        try:
            found = _sample(model, way, drawn, options)
        except FloatingPointError as error:
            return Stored({"problem": str(error), "seconds": _now(model) - began, "warnings": []})
    seconds = _now(model) - began
    said = list(dict.fromkeys(heard))
    diverged = [int(match[1]) for text in said if (match := re.match(r"(\d+) of \d+ pictures diverged", text))]
    about = {
        "problem": "", "seconds": seconds / len(found), "warnings": said, "diverged": sum(diverged), "branches": list(found.branches),
        "filters": list(found.filtered.names), "tries": len(found.filtered.tries), "rejected": found.filtered.rejected,
        "settings": {k: v for k, v in found.settings.items() if k != "also"},
    }  # fmt: skip
    shown = found.pictured.to(found.images.device).view(-1, 1, 1, 1)
    images = torch.where(shown, found.images, torch.zeros_like(found.images))
    labels = np.zeros(0, np.int64) if found.labels is None else found.labels.numpy()
    scores = torch.stack(found.scores, 1) if found.scores else torch.zeros(len(found), 0)
    return Stored(about, {
        "pictures": as_bytes(images).cpu().numpy(), "exact": images[:near].float().cpu().numpy(), "labels": labels,
        "pictured": found.pictured.numpy(), "kept": found.kept.numpy(), "attempts": found.attempts.numpy(),
        "evaluations": found.evaluations.numpy(), "scores": scores.numpy(),
    })  # fmt: skip


def _now(model: Model) -> float:
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter()

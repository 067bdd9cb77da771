"""How far what was written is from what it was made of: the same questions to both networks, and the same noise through both samplers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...guidance import CFG, Branch, Field, Plain
from ...samplers import Sampler, on_path, trajectory
from ...samplers.refill import addressed
from ...schedules import Grid, Level, gaussian
from ..model import Model
from .process import Process

__all__ = ["Parity", "apart", "compare", "sample_native", "sample_ours"]

LEVELS = 6
PICTURES = 4


@dataclass(frozen=True)
class Parity:
    """What was measured.

    Args:
        network: largest difference of the outputs, relative to the largest output.
        levels: at how many noise levels.
        samples: largest and root mean square difference of pictures, cut to [-1, 1] (latents: as they are), that begin with the same
            noise and take the same steps; None for a sampler that draws noise of its own.
        own: likewise, from pictures of the model's own sampler and grid.
        begun: likewise, where the scheduler begins with noise of its own standard deviation; None where that is ours.
        steps: of the sampler.
        pictures: likewise, of what a pipeline with a VAE makes of latents, unguided. guided: by guidance_scale `scale`. None: there is no
            such pipeline, or its sampler draws.
    """

    network: float
    levels: int
    samples: tuple[float, float] | None
    own: tuple[float, float] | None
    begun: tuple[float, float] | None
    steps: int
    pictures: tuple[float, float] | None = None
    guided: tuple[float, float] | None = None
    scale: float | None = None


@torch.no_grad()
def compare(model: Model, network: Any, scheduler: Any, process: Process) -> Parity:
    """Ask both.

    Args:
        model: ours.
        network, scheduler: of diffusers, as they were loaded.
        process: that the scheduler was written from.

    Raises:
        FloatingPointError: when the network returns numbers that are not finite.
    """
    levels = process.grid(model.denoiser.schedule, max(LEVELS, 2))[:-1]
    noise = gaussian(torch.arange(PICTURES), 0, -1, 0, model.shape)
    labels = None
    if model.num_classes:
        labels = torch.arange(PICTURES) % model.num_classes
        if getattr(model.denoiser.backbone, "null_class", True):
            labels[-1] = model.num_classes  # the null class, too
    worst, largest = 0.0, 0.0
    for level in levels:
        one, two = _answers(model, network, process, level, noise, labels)
        gap = float((one - two).abs().max())
        if not math.isfinite(gap):  # max() would pass over nan
            raise FloatingPointError("the network returns numbers that are not finite; nothing was written")
        worst, largest = max(worst, gap), max(largest, float(one.abs().max()))
    found = worst / max(largest, 1e-12)
    if process.sampler.draws:
        return Parity(found, len(levels), None, None, None, model.steps)

    def theirs(start: float) -> Tensor:
        return sample_native(network, scheduler, noise * start, labels, model.steps, model.num_classes)

    def ours(sampler: Sampler, grid: Grid) -> Tensor:
        return sample_ours(model, sampler, grid, noise, labels)

    made, expected = theirs(process.start), ours(process.sampler, process.grid)
    drawn, begins = model.sampler.draws, float(getattr(scheduler, "init_noise_sigma", 1.0))
    return Parity(
        found,
        len(levels),
        apart(expected, made, model.latents),
        None if drawn else apart(ours(model.sampler, model.grid), made, model.latents),
        None if begins == process.start else apart(expected, theirs(begins), model.latents),
        model.steps,
    )


def _answers(
    model: Model, network: Any, process: Process, level: Level, noise: Tensor, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The raw outputs of both at a level, for pure noise of the size of the level's samples, as far as both have channels."""
    clock = model.denoiser.clock(level)
    ours = model.denoiser.backbone(noise, torch.full((len(noise),), float(clock)), **_told(labels, "labels"))
    timestep = torch.full((len(noise),), process.timestep(level))
    theirs = network(noise, timestep=timestep, **_class_labels(network, labels, len(noise), model.num_classes)).sample
    return ours[:, : theirs.shape[1]], theirs


def _told(labels: Tensor | None, name: str) -> dict[str, Tensor]:
    return {} if labels is None else {name: labels}


def _class_labels(network: Any, labels: Tensor | None, count: int, classes: int) -> dict[str, Tensor]:
    """Labels as the network's own argument; a transformer wants some even where there are no classes, and its null class is the last."""
    last = network.config.get("num_embeds_ada_norm")
    if last is not None:
        labels = (
            torch.zeros(count, dtype=torch.int64) if labels is None else torch.where(labels == classes, last, labels)
        )
    return _told(labels, "class_labels")


@torch.no_grad()
def sample_native(
    network: Any, scheduler: Any, x: Tensor, labels: Tensor | None, steps: int, classes: int = 0
) -> Tensor:
    """The loop of diffusers' pipelines.

    Args:
        network, scheduler: of diffusers.
        x: (B, C, H, W), where it begins, in the scheduler's own scale.
        labels: int64 (B,), or None.
        steps: how many.
        classes: of the model; this label is the null class.
    """
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        told = t.expand(len(x)) if "num_embeds_ada_norm" in network.config else t
        out = network(scaled, told, **_class_labels(network, labels, len(x), classes)).sample
        x = scheduler.step(out[:, : x.shape[1]], t, x).prev_sample
    return x


@torch.no_grad()
def sample_ours(
    model: Model, sampler: Sampler, grid: Grid, noise: Tensor, labels: Tensor | None, scale: float = 1.0
) -> Tensor:
    """Our own loop, from unit noise (B, C, H, W), to data (B, C, H, W) without the path's alpha.

    Args:
        model: ours.
        sampler, grid: of ours.
        noise: unit normals.
        labels: int64 (B,), or None.
        scale: of guidance away from the null class.
    """
    levels = grid(model.denoiser.schedule, model.steps)
    condition = _told(labels, "labels")
    x, source = (
        levels[0].sigma * noise,
        addressed(torch.arange(len(noise)), torch.zeros(len(noise), dtype=torch.int64), noise.shape[1:]),
    )
    branches = {"cond": Branch(model.denoiser, condition or None)}
    if labels is not None and scale != 1:
        branches["ref"] = Branch(model.denoiser, {"labels": torch.full_like(labels, model.num_classes)})
    for step in trajectory(
        on_path(sampler, model.denoiser.schedule),
        Field(branches, CFG(scale) if "ref" in branches else Plain(), len(noise)),
        levels,
        x,
        source,
    ):
        x = step.x
    return x / levels[-1].alpha


def apart(ours: Tensor, theirs: Tensor, latents: bool = False) -> tuple[float, float]:
    """Largest and root mean square difference of pictures, cut to [-1, 1], or of latents as they are."""
    gap = ours - theirs if latents else ours.clamp(-1, 1) - theirs.clamp(-1, 1)
    return float(gap.abs().max()), float(gap.square().mean().sqrt())

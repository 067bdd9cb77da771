"""Many trajectories at once under a rule that learns from all of them, the network called in chunks."""

from __future__ import annotations

import torch

from ..guidance import Branch, Field, Guidance
from ..samplers import Sampler, on_path, tabulate, trajectory
from ..samplers.refill import addressed
from ..schedules import Grid, check_seeds
from ..schedules.noise import Seeds
from .chunked import Chunked
from .conditions import Labels
from .model import Model
from .progress import progress_bar

__all__ = ["check_guided", "walk_all"]


def check_guided(model: Model, scale: float, batch: int) -> None:
    """Refuse a model that has nothing to guide away from, and a scale that does not guide.

    Raises:
        ValueError: with the reason.
    """
    if model.text is not None:
        raise ValueError(
            "this model knows texts, and what guidance saves is measured for models of classes; give one of these"
        )
    if model.num_classes == 0 or not model.null_class:
        why = "was trained without classes" if model.num_classes == 0 else "was trained with label_dropout 0"
        raise ValueError(f"this model {why}, so it knows no null class that guidance could steer away from")
    if scale in (0.0, 1.0):
        raise ValueError(f"scale is {scale:g}, which asks one branch only; allowed: another number, such as 3")
    if batch < 1:
        raise ValueError(f"batch is {batch}; allowed: >= 1")


@torch.no_grad()
def walk_all(
    model: Model, rule: Guidance, seeds: Seeds, labels: Labels | None, *, steps: int | None, sampler: Sampler | None,
    grid: Grid | None, batch: int, progress: bool, about: str,
) -> None:  # fmt: skip
    """Walk all trajectories side by side, so that the rule sees every one of them in each step.

    Args:
        model: with classes and a null class.
        rule: what it learns stays in it.
        seeds, labels: of the trajectories; labels None: the classes in turn.
        steps, sampler, grid: None: the model's own.
        batch: samples at a time that the network sees, >= 1.
        progress: show a bar.
        about: what the bar says.

    Raises:
        FloatingPointError: when trajectories diverge.
    """
    seed = check_seeds(seeds)
    if len(seed) == 0:
        raise ValueError("seeds is empty; give some, such as seeds=range(200)")
    labels = [i % model.num_classes for i in range(len(seed))] if labels is None else labels
    conditions = model.conditions(labels, len(seed))
    schedule, device = model.denoiser.schedule, model.device
    levels = (model.grid if grid is None else grid)(schedule, model.steps if steps is None else steps)
    walker = on_path(model.sampler if sampler is None else sampler, schedule)
    network = Chunked(model.denoiser, batch)
    field = Field({name: Branch(network, c) for name, c in conditions.items()}, rule, len(seed))
    noise = addressed(seed, torch.zeros_like(seed), model.shape, device=device)
    training = model.denoiser.training
    model.denoiser.eval()
    x = levels[0].sigma * noise(-1, 0)
    try:
        with progress_bar(len(levels) - 1, 0, about, progress, leave=False) as bar:
            for step in trajectory(walker, field, levels, x, noise, table=tabulate(walker, levels)):
                x = step.x
                bar.update()
    finally:
        model.denoiser.train(training)
    if not bool(torch.isfinite(x).all()):
        raise FloatingPointError(f"the trajectories diverged under {rule}; take more steps or a smaller scale")

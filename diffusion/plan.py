"""What follows from a recipe before anything runs: batches per process, learning rate, and what does not fit together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..guidance import MissingBranch, WrongCount
from ..samplers import on_path, tabulate
from ..schedules import Level
from ..schedules.parts import class_paths, find_class
from .data import Source
from .forward_check import check_forward
from .latents import latents_of
from .learned_variance import check_steps
from .mup import check_base_width
from .objective import Noised
from .optimizers import Group
from .probe import probe
from .profiles import Power
from .recipe import Recipe
from .split import held_out
from .text_check import check_text
from .training_text import empty_condition
from .transforms import check_sharded

__all__ = [
    "BatchPlan",
    "check_recipe",
    "is_picture",
    "learning_rate",
    "plan_batches",
    "previewed",
    "validation_data",
]


@dataclass(frozen=True)
class BatchPlan:
    """How the global batch is split.

    places: of each process, the places of each micro-batch. They lie a stride apart: levels are stratified over the places, so
    that every micro-batch sees all of them, and gradients of micro-batches are alike but for their noise.
    """

    batch: int
    processes: int
    places: tuple[tuple[range, ...], ...]

    @property
    def micro_batch(self) -> int:
        """The largest micro-batch."""
        return max(len(places) for process in self.places for places in process)

    @property
    def accumulation(self) -> int:
        """Micro-batches per optimizer step."""
        return max(len(process) for process in self.places)


def plan_batches(batch: int, processes: int, micro_batch: int | None) -> BatchPlan:
    """Split a global batch over processes and micro-batches.

    Args:
        batch: samples per optimizer step over all processes.
        processes: how many, >= 1.
        micro_batch: most samples at once in a process, or None.

    Raises:
        ValueError: when the batch can't be split evenly over the processes.
    """
    if batch % processes:
        raise ValueError(f"batch {batch} can't be split over {processes} processes; choose a multiple of {processes}")
    share = batch // processes
    accumulation = -(-share // min(micro_batch or share, share))
    stride = accumulation * processes
    places = tuple(
        tuple(range(m * processes + p, batch, stride) for m in range(accumulation)) for p in range(processes)
    )
    return BatchPlan(batch, processes, places)


def learning_rate(recipe: Recipe, step: int) -> float:
    """The rate of optimizer step 0, 1, ...: as the recipe's part says, or a linear warm-up to lr, then half a cosine to lr * lr_end."""
    if recipe.rate is not None:
        return recipe.rate(recipe.lr, step, recipe.steps)
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(recipe.steps - 1 - recipe.warmup, 1)
    return recipe.lr * (recipe.lr_end + (1 - recipe.lr_end) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))


def check_recipe(recipe: Recipe) -> None:
    """Refuse parts that do not fit together: the network and the data, the row and every level that sampling will ask.

    Raises:
        ValueError: naming the keys and the fix. PairingError is one.
    """
    check_forward(recipe.schedule, recipe.weighting)
    denoiser = recipe.denoiser()
    levels = recipe.grid(recipe.schedule, recipe.sampling_steps)
    denoiser.check(tabulate(on_path(recipe.sampler, recipe.schedule), levels).asked)
    _check_classes(recipe)
    shape, classes = recipe.data.shape, recipe.data.num_classes
    dims = getattr(recipe.backbone, "dims", len(shape) - 1)
    if dims != len(shape) - 1:
        raise ValueError(
            f"backbone.dims is {dims}, the data are {' x '.join(map(str, shape))}, {shape[0]} channels of {len(shape) - 1} axes; set "
            f"backbone.dims: {len(shape) - 1}"
        )
    channels, size = getattr(recipe.backbone, "channels", shape[0]), getattr(recipe.backbone, "size", shape[-1])
    if (channels, size) != (shape[0], shape[-1]):
        raise ValueError(
            f"backbone.channels is {channels} and backbone.size {size}, the data are {' x '.join(map(str, shape))}; "
            f"set backbone.channels: {shape[0]}, backbone.size: {shape[-1]}"
        )
    if recipe.num_classes not in (0, classes):
        raise ValueError(
            f"backbone.num_classes is {recipe.num_classes}, the data have {classes}; set backbone.num_classes: {classes}, or 0 to "
            "train without classes"
        )
    if recipe.num_classes and recipe.label_dropout and not getattr(recipe.backbone, "null_class", True):
        raise ValueError(
            f"label_dropout is {recipe.label_dropout}, and the backbone has no null class to replace labels by; set label_dropout: 0, or "
            "backbone.null_class: true"
        )
    if len(recipe.data) == 0:
        raise ValueError("the data set is empty")
    check_text(recipe, validation_data(recipe) if recipe.validate_every else None)
    _check_training(recipe)
    _check_sampling(recipe, levels, _check_objective(recipe))


def previewed(recipe: Recipe) -> bool:
    """Whether samples can be shown as they are: pictures, and no latents that only have the shape of some.

    Args:
        recipe: what is trained.
    """
    return is_picture(recipe.data.shape) and latents_of(recipe.data) is None


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether samples of a shape can be stored as pictures, grey or in colours."""
    return len(shape) == 3 and shape[0] in (1, 3)


def validation_data(recipe: Recipe) -> Source:
    """What a run is validated on.

    Raises:
        ValueError: when there is nothing that it is not trained on.
    """
    data = recipe.validation if recipe.validation is not None else held_out(recipe.data)
    if data is None:
        raise ValueError(
            f"validate_every is {recipe.validate_every}, but nothing is held out of the data; set data: Split around them, or validation"
        )
    if data.shape != recipe.data.shape or (recipe.num_classes and data.num_classes > recipe.num_classes):
        raise ValueError(
            f"validation has samples of shape {tuple(data.shape)} and {data.num_classes} classes, the data {tuple(recipe.data.shape)} "
            f"and {recipe.num_classes}; choose data of the same kind"
        )
    return data


def _check_training(recipe: Recipe) -> None:
    """What is done to the pictures, and what is stored of averages, must fit the rest."""
    if recipe.validate_every:
        validation_data(recipe)
    about = latents_of(recipe.data)
    if recipe.vae is not None and about is None:
        raise ValueError(f"vae is {recipe.vae!r}, but the data are no latents; set vae: null")
    if recipe.sample_every and recipe.vae is None and not previewed(recipe):
        fix = (
            f"; set vae to the folder of {about['vae']['folder']}, that made these latents" if about is not None else ""
        )
        warnings.warn(
            f"sample_every is {recipe.sample_every}, but samples of shape {tuple(recipe.data.shape)} are "
            f"{'no pictures' if about is None else 'latents'}: there will be no previews{fix}",
            stacklevel=3,
        )
    if recipe.snapshot_every and not recipe.ema_lengths:
        raise ValueError(
            f"snapshot_every is {recipe.snapshot_every}, but ema_lengths is empty; set ema_lengths: [0.05, 0.1], or snapshot_every: 0"
        )
    if recipe.transforms and recipe.precision == "fp16":
        raise ValueError(
            "transforms look at gradients, which precision fp16 scales; set precision: bf16, or leave transforms out"
        )
    if recipe.parallel == "fsdp":
        check_sharded(recipe.transforms)
    for length in recipe.ema_lengths:
        Power(length)  # refuses what is no length
    warmup = recipe.warmup if recipe.rate is None else getattr(recipe.rate, "warmup", 0)
    if warmup >= recipe.steps:
        key = "warmup" if recipe.rate is None else "rate.warmup"
        warnings.warn(f"{key} is {warmup} and steps {recipe.steps}: the rate never reaches lr", stacklevel=3)
    check_base_width(recipe.optimizer, recipe.backbone)
    recipe.optimizer([Group.of(recipe.backbone)])  # one that this network is nothing for says so
    told = recipe.augment.told if recipe.augment is not None else 0
    takes = int(getattr(recipe.backbone, "augment_features", 0))
    if told and told != takes:
        raise ValueError(
            f"augment tells the network {told} numbers per sample, and the backbone takes {takes}; set backbone.augment_features: {told}, "
            "or what was done would show in the samples"
        )


def _check_sampling(recipe: Recipe, levels: Sequence[Level], learns: bool) -> None:
    """What the recipe's own guidance asks for must be there without anybody who samples saying more."""
    told = recipe.num_classes or recipe.text is not None
    names = ("cond", "ref") if told else ("cond",)
    sampler = on_path(recipe.sampler, recipe.schedule)
    many = 1 << 62  # a recipe's guidance serves any number of pictures, so no list of scales fits
    try:
        asked = probe(recipe.guidance, names, sampler, levels, recipe.data.shape, many, learns)
    except MissingBranch as error:
        if error.name == "ref":
            raise MissingBranch("ref", names, "is trained without classes or texts; set guidance: Plain") from error
        raise ValueError(
            f"guidance is {recipe.guidance}, but a recipe has no branch {error.name!r}, so neither previews nor samples could be drawn "
            "from it alone; set guidance: Plain (or CFG) here, and name this rule when sampling"
        ) from error
    except WrongCount as error:
        raise ValueError(
            f"guidance is {recipe.guidance}, with a number per picture, but a recipe's guidance serves any number of pictures; give one "
            "number here, and the list when sampling"
        ) from error
    if told and recipe.label_dropout == 0 and asked["ref"]:
        null = "empty text" if recipe.text is not None else "null class"
        raise ValueError(
            f"label_dropout is 0, but {recipe.guidance} (or a rule of the sampler's) steers away from the {null}, which is then never "
            "trained; set label_dropout: 0.1, or guidance: Plain"
        )


def _check_objective(recipe: Recipe) -> bool:
    """Put one empty sample to the objective: a network that lacks what it needs is found before the first step.

    Returns:
        Whether the network learns a variance.
    """
    check_steps(recipe.objective, recipe.density, recipe.schedule)
    denoiser, head = recipe.denoiser(), recipe.objective.head()
    device = next((p.device for p in recipe.backbone.parameters()), torch.device("cpu"))
    drawn = recipe.density(torch.full((1,), 0.5, dtype=torch.float64, device=device), recipe.schedule)
    x = torch.zeros(1, *recipe.data.shape, device=device)
    condition = empty_condition(recipe, 1, device)
    training = recipe.backbone.training
    recipe.backbone.eval()  # a look must not move running statistics
    try:
        with torch.no_grad():
            seen = Noised(x, x, drawn.level, condition)
            recipe.objective(denoiser, None if head is None else head.to(device), recipe.weighting, seen)
            return denoiser.answer(seen.x, seen.level, condition).variance is not None
    finally:
        recipe.backbone.train(training)


def _check_classes(recipe: Recipe) -> None:
    """Every class must be importable by the name that the config will hold, or the run could not be loaded."""

    for path in class_paths(recipe.describe()):
        find_class(path, [path.split(".")[0]])

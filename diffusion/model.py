"""A trained model and how to sample from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from ..guidance import Branch, Field, Guidance, Plain
from ..guidance.tree import Tree, take
from ..samplers import DPMSolverPP, Sampler, on_path
from ..samplers.filters import Filter
from ..samplers.refill import fill
from ..schedules import Grid, Trailing, check_seeds
from ..schedules.noise import Seeds
from ..schedules.parts import build, describe
from .checkpoint import at_step, newest
from .denoiser import Denoiser
from .progress import progress_bar
from .samples import Samples, empty

__all__ = ["Model", "load"]


@dataclass
class Model:
    """A denoiser, and how it is sampled from unless told otherwise.

    Args:
        denoiser: the model.
        shape: (C, H, W) of a sample.
        num_classes: its classes; 0: unconditional. The null class is number num_classes.
        null_class: whether the null class was trained (labels were dropped); without it there is nothing to guide away from.
        sampler, grid, steps, guidance: the defaults of `sample`.
        source: which run and step this is, for the settings in pictures.
    """

    denoiser: Denoiser
    shape: tuple[int, ...]
    num_classes: int = 0
    sampler: Sampler = field(default_factory=DPMSolverPP)
    grid: Grid = field(default_factory=Trailing)
    steps: int = 20
    guidance: Guidance = field(default_factory=Plain)
    source: dict[str, Any] = field(default_factory=dict)
    null_class: bool = True

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.denoiser.parameters()).device

    def conditions(self, labels: Sequence[int | None] | Tensor | None, count: int) -> dict[str, Tree]:
        """The condition of each branch: "cond", and "ref" (the null class) for a model with classes.

        Args:
            labels: one per slot, each 0..num_classes-1, or None for the null class; None: all the null class.
            count: number of slots.

        Raises:
            ValueError: for labels out of range, too few or too many, or of a model without classes.
        """
        if isinstance(labels, int):
            raise ValueError(f"labels is {labels}; give one per seed, such as labels=[{labels}] * {count}")
        given = labels.tolist() if isinstance(labels, Tensor) else None if labels is None else list(labels)
        if self.num_classes == 0:
            if given is not None and any(v is not None for v in given):
                raise ValueError("labels were given, but this model was trained without classes; leave labels out")
            return {"cond": None}
        given = [None] * count if given is None else given
        if len(given) != count:
            raise ValueError(
                f"{len(given)} labels for {count} seeds; give one label per seed, such as labels=[3] * {count}"
            )
        for v in given:
            if v is not None and (not isinstance(v, int) or isinstance(v, bool) or not 0 <= v < self.num_classes):
                raise ValueError(f"label {v!r}; allowed: 0 to {self.num_classes - 1}, or none for no class")
        null = torch.full((count,), self.num_classes, dtype=torch.int64, device=self.device)
        cond = torch.tensor(
            [self.num_classes if v is None else v for v in given], dtype=torch.int64, device=self.device
        )
        if not self.null_class:
            if None in given:
                raise ValueError(
                    "this model was trained with label_dropout 0, so it knows no null class; give every seed a label"
                )
            return {"cond": {"labels": cond}}
        own = {"labels": cond}
        # no label at all: the same condition, so that guidance does not pay to steer from it to itself
        return {"cond": own, "ref": own if all(v is None for v in given) else {"labels": null}}

    @torch.no_grad()
    def sample(
        self, seeds: Seeds, labels: Sequence[int | None] | Tensor | None = None, *,
        steps: int | None = None, sampler: Sampler | None = None, grid: Grid | None = None,
        guidance: Guidance | None = None, filters: Sequence[Filter] = (), retries: int = 8, batch: int = 64,
        strict: bool = False, brownian: bool = False, progress: bool = False,
    ) -> Samples:  # fmt: skip
        """Pictures, one per seed; picture i depends on its seed and label only, not on what is sampled beside it.

        Args:
            seeds: whole numbers in [0, 2^63).
            labels: one per seed, 0..num_classes-1 or None.
            steps, sampler, grid, guidance: None: the model's own.
            filters: a picture that one of them rejects is tried again.
            retries: how often, >= 0; a slot that runs out is marked in `kept`.
            batch: pictures at a time, >= 1.
            strict: always the same batch shape for the network, so that a picture is the same to the last bit in any batch.
                Without it networks round differently for other batch shapes, by about 1e-6.
            brownian: a stochastic sampler follows one Brownian motion per attempt, so that its pictures converge as steps are added;
                without it every number of steps draws noise of its own.
            progress: show a bar.

        Raises:
            ValueError: for values out of range.
            PairingError: where the grid asks the network at a level that its row says nothing about.
            FloatingPointError: when the network returns numbers that are not finite.
        """
        for name, value, wanted in (
            ("sampler", sampler, Sampler),
            ("grid", grid, Grid),
            ("guidance", guidance, Guidance),
        ):
            _check_part(name, value, wanted)
        if isinstance(filters, Filter):
            filters = [filters]
        for f in filters:
            _check_part("filters", f, Filter)
        steps, sampler = self.steps if steps is None else steps, self.sampler if sampler is None else sampler
        grid, guidance = self.grid if grid is None else grid, self.guidance if guidance is None else guidance
        seed = check_seeds(seeds)
        if len(seed) == 0:
            raise ValueError("seeds is empty; give one seed per picture, such as seeds=range(16)")
        conditions = self.conditions(labels, len(seed))
        levels = grid(self.denoiser.schedule, steps)
        walker = on_path(sampler, self.denoiser.schedule)
        device, names = self.device, tuple(conditions)

        def denoise_for(slots: Tensor) -> Field:
            taken = {id(c): take(c, slots) for c in conditions.values()}  # what was one condition stays one
            return Field({n: Branch(self.denoiser, taken[id(c)]) for n, c in conditions.items()}, guidance, len(slots))

        settings = {
            "version": version("sfumato"), **self.source, "steps": steps, "sampler": describe(sampler), "grid": describe(grid),
            "guidance": describe(guidance), "schedule": describe(self.denoiser.schedule), "row": describe(self.denoiser.row),
            "filters": describe(list(filters)), "strict": strict, "brownian": brownian, "batch": batch, "device": str(device),
            "null_class": self.num_classes if self.num_classes else None,
        }  # fmt: skip
        images = empty(len(seed), self.shape, device)
        attempts, kept = torch.zeros_like(seed), torch.zeros(len(seed), dtype=torch.bool)
        spent = torch.zeros(len(seed), len(names), dtype=torch.int64)
        scores = tuple(torch.full((len(seed),), math.nan) for _ in filters)
        training = self.denoiser.training
        self.denoiser.eval()
        bar = progress_bar(len(seed) * steps, 0, "sampling", progress, leave=False)
        try:
            for done in fill(
                walker, denoise_for, levels, seed, self.shape, filters=filters, retries=retries, batch=batch,
                strict=strict, brownian=brownian, device=device, on_step=lambda moved: bar.update(moved),
            ):  # fmt: skip
                finite = torch.isfinite(done.x).flatten(1).all(1).cpu()
                if not bool(finite.all()):
                    bad = seed[done.slots[~finite]].tolist()
                    raise FloatingPointError(
                        f"sampling returned numbers that are not finite for seed(s) {bad[:8]}: the weights hold nan, or {sampler} "
                        f"diverged in {steps} steps under {guidance}"
                    )
                spent[done.slots] += done.evaluations
                attempts[done.slots] = done.attempts
                kept[done.slots] = done.keep
                good = done.slots[done.keep]
                # a path with scaled data ends at x = alpha x0
                images[good.to(device)] = (done.x[done.keep.to(device)] / levels[-1].alpha).clamp(-1, 1)
                for score, verdict in zip(scores, done.verdicts, strict=True):
                    score[done.slots] = verdict.score.float()
        finally:
            bar.close()
            self.denoiser.train(training)
        used = conditions["cond"]["labels"].cpu() if self.num_classes else None
        return Samples(images, seed, used, attempts, kept, spent, names, scores, settings)


def _check_part(name: str, value: object, wanted: type) -> None:
    """Refuse what is no such part: a class instead of an instance, a name instead of an object."""
    if isinstance(value, type):
        raise ValueError(f"{name} is the class {value.__name__}; give an instance, {value.__name__}()")
    if value is not None and not isinstance(value, wanted):
        raise ValueError(
            f"{name} is {value!r}, which is no {wanted.__name__}; give an object, such as those of sfumato.{_HOMES[name]}"
        )


_HOMES = {"sampler": "samplers", "grid": "schedules", "guidance": "guidance", "filters": "samplers.filters"}
_MODEL = ("backbone", "schedule", "row", "clock", "input_std", "sampler", "grid", "sampling_steps", "guidance")


def load(
    run: str | Path, *, ema: bool = True, device: str = "cpu", allow: Sequence[str] = (), step: int | None = None
) -> Model:
    """The model of a run folder, ready to sample.

    Args:
        run: the folder that `sfumato train` wrote.
        ema: the averaged weights, or the raw ones.
        device: where to put it.
        allow: packages whose classes the run's config may name, beside Sfumato's.
        step: the checkpoint of that optimizer step, of those that the run kept; None: the newest valid one.

    Raises:
        ValueError: for a folder that is not a run, holds no valid checkpoint or not that of `step`, or names classes that are not
            allowed.
    """
    folder = Path(run)
    config = folder / "config.yaml"
    if not config.is_file():
        raise ValueError(f"{run} is not a run folder: it holds no config.yaml (a run is made by `sfumato train`)")
    try:
        description = yaml.safe_load(config.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(description, dict):
        raise ValueError(
            f"{config} is not the config of a run: it {'is empty' if description is None else 'holds no keys'}"
        )
    missing = [key for key in _MODEL if key not in description]
    if missing:
        raise ValueError(f"{config} lacks {', '.join(missing)}; it is not the config of a run")
    checkpoint = newest(folder / "checkpoints") if step is None else at_step(folder / "checkpoints", step)
    if checkpoint is None:
        raise ValueError(f"{run} holds no valid checkpoint; train it first: sfumato train ... --out {run}")
    parts = build({key: description[key] for key in _MODEL}, allow)
    denoiser = Denoiser(parts["backbone"], parts["schedule"], parts["row"], parts["clock"], parts["input_std"])
    try:
        denoiser.backbone.load_state_dict(checkpoint.tensors("ema" if ema else "model"))
    except RuntimeError as error:
        raise ValueError(f"the checkpoint {checkpoint.folder} is not of the network in {config}: {error}") from error
    try:
        denoiser.to(device)
    except (RuntimeError, AssertionError) as error:
        usable = "cpu, cuda" if torch.cuda.is_available() else "cpu (no CUDA device is usable here)"
        raise ValueError(f"device is {device!r}, which can't be used here; allowed: {usable}") from error
    return Model(
        denoiser.eval(), tuple(checkpoint.state["shape"]), int(checkpoint.state["num_classes"]),
        parts["sampler"], parts["grid"], parts["sampling_steps"], parts["guidance"],
        {"run": folder.name, "checkpoint": checkpoint.step, "ema": ema}, checkpoint.state["recipe"]["label_dropout"] > 0,
    )  # fmt: skip

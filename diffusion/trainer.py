"""Training: from a recipe to a run folder."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..schedules.parts import class_paths
from .checkpoint import Checkpoint
from .ema import Ema
from .interrupt import Interrupted, signals
from .launch import Processes
from .loading import load
from .model import Model
from .optimizer import from_tensors, to_tensors
from .plan import check_recipe, learning_rate, plan_batches
from .progress import progress_bar
from .recipe import Recipe
from .run_folder import RunFolder
from .update import Update, Updated

__all__ = ["train"]

# the optimizer's state of each module, in a checkpoint
_OPTIMIZER = {"model": "optimizer", "head": "head_optimizer"}


def train(recipe: Recipe, folder: str | Path, *, resume: bool = False, progress: bool = True) -> Model:
    """Train a recipe into a run folder: config.yaml, checkpoints/, metrics.jsonl, samples/, tensorboard/.

    On one process, or on several when started by torchrun or `accelerate launch`; the recipe, the data order and every draw are
    the same. The recipe's backbone is trained in place, from the weights it has. SIGINT or SIGTERM saves a checkpoint at the
    next step and raises Interrupted.

    Args:
        recipe: what to train.
        folder: the run folder; made when missing.
        resume: go on from the newest valid checkpoint of the folder, or start when there is none.
        progress: show a bar.

    Returns:
        The trained model (averaged weights), as `load(folder)` gives it.

    Raises:
        ValueError: for parts that do not fit together, a folder that holds a run already, or a resume under another recipe.
        FloatingPointError: when the loss or gradient is not finite; the weights are those before the step.
        Interrupted: after a signal.
    """
    check_recipe(recipe)
    before = torch.get_num_threads()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    try:
        _Run(recipe, Path(folder), resume).go(progress)
    finally:
        torch.set_num_threads(before)
    # whoever built the recipe's parts trusts their packages
    return load(folder, allow=sorted({path.split(".")[0] for path in class_paths(recipe.describe())}))


class _Run:
    """One run: what it is made of, and its loop."""

    def __init__(self, recipe: Recipe, path: Path, resume: bool) -> None:
        self.recipe, self.folder = recipe, RunFolder(path, recipe)
        self.processes = Processes(recipe.precision, path / "tensorboard")
        plan_batches(recipe.batch, self.processes.count, recipe.micro_batch)  # refused before anything is written
        self._claim(resume)
        self.processes.start_tracker()
        self.denoiser = recipe.denoiser().to(self.processes.device)
        torch.manual_seed(recipe.seed)  # a head may draw its weights
        self.backbone, self.head = self.denoiser.backbone, recipe.objective.head()
        if self.head is not None:
            self.head.to(self.processes.device)
        # decay is the network's: it would pull what a head estimates towards 0
        groups: list[dict[str, Any]] = [{"params": list(module.parameters())} for module in self._trained.values()]
        groups[1:] = [{**group, "weight_decay": 0.0} for group in groups[1:]]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), weight_decay=recipe.weight_decay, fused=True,
        )  # fmt: skip
        self.ema, self.step = Ema(self.backbone, recipe.ema), 0
        self.update = Update(recipe, self.processes, self.denoiser, self.head, self.optimizer)
        found = self.folder.newest()
        if found is not None:
            self._restore(found)
        self.saved = self.step if found is not None else -1
        if self.processes.main:
            self.folder.cut_log(self.step)

    @property
    def _trained(self) -> dict[str, nn.Module]:
        """What the optimizer moves, by the name under which it is saved."""
        return {"model": self.backbone, **({"head": self.head} if self.head is not None else {})}

    def _claim(self, resume: bool) -> None:
        """The main process looks whether the folder may be used; all processes agree on the outcome."""
        error: ValueError | None = None
        if self.processes.main:
            try:
                self.folder.claim(resume)
            except ValueError as refused:
                error = refused
        self.processes.agree(error)

    def _restore(self, found: Checkpoint) -> None:
        for name, module in self._trained.items():
            module.load_state_dict(found.tensors(name))
            from_tensors(self.optimizer, module, found.tensors(_OPTIMIZER[name]))
        self.ema.state = {k: v.to(self.processes.device) for k, v in found.tensors("ema").items()}
        if self.update.known is not None:
            self.update.known = found.tensors("density")["known"]
        self.step = found.step

    def save(self) -> None:
        """Publish a checkpoint from the main process, waiting for nobody."""
        if self.processes.main:
            tensors = {"ema": self.ema.state}
            for name, module in self._trained.items():
                tensors |= {name: module.state_dict(), _OPTIMIZER[name]: to_tensors(self.optimizer, module)}
            if self.update.known is not None:
                tensors["density"] = {"known": self.update.known}
            self.folder.save(self.step, tensors)
        self.saved = self.step

    def go(self, progress: bool) -> None:
        """The loop."""
        recipe, number = self.recipe, 0
        self.backbone.train()
        shown = progress and self.processes.main
        with progress_bar(recipe.steps, self.step, "training", shown) as bar, signals() as noted:
            started, done, total = time.monotonic(), 0, 0.0
            while self.step < recipe.steps and not number:
                made = self._make()
                done, total = done + 1, total + made.loss
                bar.update()
                if self.step % recipe.log_every == 0 or self.step == recipe.steps:
                    rate = done * recipe.batch / (time.monotonic() - started)
                    self._log(float(total) / done, float(made.norm), rate)
                    bar.set_postfix(loss=f"{float(total) / done:.4f}", refresh=False)
                    started, done, total = time.monotonic(), 0, 0.0
                if recipe.save_every and self.step % recipe.save_every == 0:
                    self.save()
                    self.processes.wait()
                if recipe.sample_every and self.step % recipe.sample_every == 0:
                    self._preview()
                number = self._told(noted)
        if self.saved != self.step:
            self.save()
            self.processes.wait()
        self.processes.close()
        if self.step < recipe.steps:
            raise Interrupted(f"stopped at step {self.step} of {recipe.steps}; the checkpoint is saved", number)

    def _make(self) -> Updated:
        """One optimizer step, and the average; an error saves what was there before it."""
        try:
            made = self.update(self.step)
        except Exception:
            if self.step > max(self.saved, 0):
                self.save()
            raise
        self.step += 1
        self.ema.update(self.backbone, self.step)
        return made

    def _told(self, noted: list[int]) -> int:
        """The signal that somebody was given, or 0; every process must stop at the same step."""
        number = float(noted[0] if noted else 0)
        if self.processes.count == 1:
            return int(number)
        return int(self.processes.largest(torch.tensor(number, device=self.processes.device)))

    def _log(self, loss: float, norm: float, rate: float) -> None:
        values = {
            "loss": loss, "gradient_norm": norm, "lr": learning_rate(self.recipe, self.step - 1), "images_per_second": rate,
        }  # fmt: skip
        buckets = self.update.take_buckets()
        if self.processes.main:
            self.folder.log({"step": self.step, **values, "buckets": buckets})
        self.processes.log(values, self.step)

    def _preview(self) -> None:
        """A sheet of samples of the averaged weights, always of the same seeds."""
        if self.processes.main:
            recipe = self.recipe
            source = {"run": self.folder.path.name, "checkpoint": self.step, "ema": True}
            labels = [i % recipe.num_classes for i in range(16)] if recipe.num_classes else None
            with self.ema.swapped(self.backbone):
                model = Model(
                    self.denoiser, recipe.data.shape, recipe.num_classes, recipe.sampler, recipe.grid, recipe.sampling_steps,
                    recipe.guidance, source,
                )  # fmt: skip
                try:
                    model.sample(range(16), labels).save_sheet(self.folder.preview(self.step))
                except Exception as error:  # a picture is no reason to lose a run
                    warnings.warn(f"no preview at step {self.step}: {error}", stacklevel=2)
        self.processes.wait()

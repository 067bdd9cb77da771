"""Training: from a recipe to a run folder."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from tqdm.auto import tqdm

from ..schedules import Stream
from ..schedules.noise import integers
from .buckets import Buckets
from .checkpoint import Checkpoint, any_folder, newest, save
from .draws import DataOrder, draw
from .ema import Ema
from .launch import Processes
from .model import Model, load
from .objective import losses
from .optimizer import from_tensors, to_tensors
from .plan import check_recipe, learning_rate, plan_batches
from .recipe import Recipe

__all__ = ["Interrupted", "train"]

# A resumed run may change these; the others are refused. Not all of them leave it the same run: steps stretches the learning
# rate (a warning says so), and micro_batch regroups what a network with dropout draws.
_FREE = {
    "steps", "micro_batch", "threads", "log_every", "sample_every", "save_every", "keep", "sampler", "grid", "sampling_steps",
    "guidance",
}  # fmt: skip


class Interrupted(Exception):
    """Training was told to stop, saved a checkpoint and stopped; `resume` goes on from there.

    Args:
        message: at which step.
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


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
    folder = Path(folder)
    check_recipe(recipe)
    before = torch.get_num_threads()
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    try:
        _Run(recipe, folder, resume, progress).go()
    finally:
        torch.set_num_threads(before)
    return load(folder, allow=_packages(recipe))


def _packages(recipe: Recipe) -> list[str]:
    """The packages of the recipe's own parts: whoever built them trusts them."""
    text = json.dumps(recipe.describe())
    return sorted({part.split(".")[0].strip('" ') for part in text.split('"class_path":')[1:]})


@contextmanager
def _signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM leave a note instead of stopping the step half-way; a second one stops at once."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    try:
        old = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the caller's signals stay his
        yield noted
        return
    try:
        yield noted
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)


class _Run:
    """One run: what it is made of, and its loop."""

    def __init__(self, recipe: Recipe, folder: Path, resume: bool, progress: bool) -> None:
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.processes = Processes(recipe.precision, folder / "tensorboard")
        self.batches = plan_batches(recipe.batch, self.processes.count, recipe.micro_batch)
        self._open(resume)
        found = newest(folder / "checkpoints")
        self.processes.start_tracker()
        self.denoiser = recipe.denoiser().to(self.processes.device)
        self.backbone = self.denoiser.backbone
        optimizer = torch.optim.AdamW(
            self.backbone.parameters(), lr=recipe.lr, betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay, fused=True,
        )  # fmt: skip
        self.step = 0
        self.ema = Ema(self.backbone, recipe.ema)
        if found is not None:
            self._restore(found, optimizer)
        if self.processes.main:
            self._cut_log()
        self.optimizer = optimizer
        wrapped, self.stepper = self.processes.prepare(self.denoiser.backbone, optimizer)
        # the same parts around the wrapped backbone, whose forward exchanges gradients between processes
        self.training = recipe.denoiser()
        self.training.backbone = wrapped
        self.order = DataOrder(recipe.seed, len(recipe.data))
        self.buckets = Buckets(self.processes.device)

    def _open(self, resume: bool) -> None:
        """The main process looks whether the folder may be used, and writes the config; all processes agree on the outcome."""
        error: ValueError | None = None
        if self.processes.main:
            try:
                self._claim(resume)
            except OSError as refused:
                error = ValueError(f"the run folder {self.folder} can't be written: {refused}")
            except ValueError as refused:
                error = refused
        self.processes.agree(error)

    def _claim(self, resume: bool) -> None:
        config, description = self.folder / "config.yaml", self.recipe.describe()
        if config.is_file() and not resume:
            raise ValueError(
                f"{self.folder} holds a run already; go on with it by --resume, or choose another folder by --out"
            )
        root = self.folder / "checkpoints"
        found = newest(root) if config.is_file() else None
        if found is None and any_folder(root):
            raise ValueError(f"no checkpoint in {root} is valid; move the folder away to start again from nothing")
        if found is not None:
            old = found.state["recipe"]
            if self.recipe.steps < found.step:
                raise ValueError(
                    f"steps is {self.recipe.steps}, but {self.folder} has done {found.step}; allowed: at least that"
                )
            if self.recipe.steps != old["steps"]:
                warnings.warn(
                    f"steps was {old['steps']} and is {self.recipe.steps}: the learning rate follows the new length from here on",
                    stacklevel=2,
                )
            changed = [k for k in description if k not in _FREE and description[k] != old.get(k)]
            changed += ["data"] if found.state["data"] != self.recipe.data.fingerprint and "data" not in changed else []
            if changed:
                lines = "; ".join(f"{k} was {old.get(k)!r}, is {description[k]!r}" for k in changed)
                raise ValueError(
                    f"{self.folder} can't be resumed under another recipe: {lines}. Start a new run in another folder"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / ".config.yaml"
        temporary.write_text(yaml.safe_dump(description, sort_keys=False))
        os.replace(temporary, config)

    def _restore(self, found: Checkpoint, optimizer: torch.optim.Optimizer) -> None:
        self.backbone.load_state_dict(found.tensors("model"))
        self.ema.state = {k: v.to(self.processes.device) for k, v in found.tensors("ema").items()}
        from_tensors(optimizer, self.backbone, found.tensors("optimizer"))
        self.step = found.step

    def _cut_log(self) -> None:
        """Drop the log lines of steps that will be made, and logged, again, and a line that a killed process left half."""
        log, kept = self.folder / "metrics.jsonl", []
        for line in log.read_text().splitlines() if log.is_file() else []:
            with suppress(json.JSONDecodeError):
                kept += [line] if json.loads(line)["step"] <= self.step else []
        temporary = self.folder / ".metrics.jsonl"
        temporary.write_text("".join(f"{line}\n" for line in kept))
        os.replace(temporary, log)

    def save(self) -> None:
        """Publish a checkpoint; every process waits for it."""
        self._write()
        self.processes.wait()

    def _write(self) -> None:
        """Publish a checkpoint from the main process, waiting for nobody."""
        if self.processes.main:
            tensors = {
                "model": self.backbone.state_dict(),
                "ema": self.ema.state,
                "optimizer": to_tensors(self.optimizer, self.backbone),
            }
            data = self.recipe.data
            state = {
                "data": data.fingerprint, "shape": list(data.shape), "num_classes": data.num_classes,
                "recipe": self.recipe.describe(),
            }  # fmt: skip
            save(self.folder / "checkpoints", self.step, tensors, state, self.recipe.keep)

    def go(self) -> None:
        """The loop."""
        recipe, saved = self.recipe, self.step
        self.backbone.train()
        bar = tqdm(
            total=recipe.steps, initial=self.step, desc="training", unit="step",
            disable=not (self.progress and self.processes.main),
        )  # fmt: skip
        started, done, total, number = time.monotonic(), 0, 0.0, 0
        try:
            with _signals() as noted:
                while self.step < recipe.steps:
                    try:
                        loss, norm = self._update()
                    except Exception:
                        if saved != self.step:  # the weights are those of the last whole step: worth keeping
                            self._write()
                        raise
                    done, total = done + 1, total + loss
                    bar.update()
                    if self.step % recipe.log_every == 0 or self.step == recipe.steps:
                        values = {
                            "loss": float(total) / done, "gradient_norm": float(norm), "lr": learning_rate(recipe, self.step - 1),
                            "images_per_second": done * recipe.batch / (time.monotonic() - started),
                        }  # fmt: skip
                        self._log(values)
                        bar.set_postfix(loss=f"{values['loss']:.4f}")
                        started, done, total = time.monotonic(), 0, 0.0
                    if recipe.save_every and self.step % recipe.save_every == 0:
                        self.save()
                        saved = self.step
                    if recipe.sample_every and self.step % recipe.sample_every == 0:
                        self._preview()
                    # every process must stop at the same step
                    told = torch.tensor(float(noted[0] if noted else 0), device=self.processes.device)
                    number = int(self.processes.largest(told)) if self.processes.count > 1 else int(told)
                    if number:
                        break
        finally:
            bar.close()
        if saved != self.step or newest(self.folder / "checkpoints") is None:
            self.save()
        self.processes.close()
        if self.step < recipe.steps:
            raise Interrupted(f"stopped at step {self.step} of {recipe.steps}; the checkpoint is saved", number)

    def _update(self) -> tuple[Tensor, Tensor]:
        """One optimizer step; returns the loss of the global batch and the gradient's norm."""
        recipe, device = self.recipe, self.processes.device
        total = torch.zeros((), device=device)
        micro_batches = self.batches.places[self.processes.rank]
        seen: list[tuple[Tensor, Tensor]] = []
        self.stepper.zero_grad(set_to_none=True)
        for first, last in micro_batches:
            places = torch.arange(first, last)
            index = self.order(self.step * recipe.batch + places)
            batch = recipe.data.batch(index)
            d = draw(
                recipe.seed, self.step, places, recipe.batch, recipe.data.shape, recipe.density, recipe.schedule,
                recipe.label_dropout, device,
            )  # fmt: skip
            # what a network itself draws (dropout) is addressed too: a resumed run draws the same
            words = integers(torch.tensor([recipe.seed]), first, self.step, 2, Stream.TRAIN_NETWORK)[0].tolist()
            torch.manual_seed(words[0] << 31 ^ words[1])
            condition = None
            if batch.labels is not None:
                labels = batch.labels.to(device)
                condition = {"labels": torch.where(d.dropped, torch.full_like(labels, recipe.data.num_classes), labels)}
            with self.processes.micro_batch(self.training.backbone, last == micro_batches[-1][1]):
                parts = losses(
                    self.training, recipe.weighting, batch.x.to(device), d.eps, d.level, condition, d.factor
                )  # fmt: skip
                # the mean over the global batch, times the number of processes over which gradients are averaged
                self.processes.backward(parts.loss.sum() * (self.processes.count / recipe.batch))
            total += parts.loss.detach().sum() / recipe.batch
            self.buckets.add(d.level, parts.error.detach())
            seen.append((index, parts.loss.detach()))
        total = self.processes.total(total)
        norm = self.processes.clip(self.training.backbone, float("inf") if recipe.clip is None else recipe.clip)
        if not bool(torch.isfinite(total)) or (recipe.precision != "fp16" and not bool(torch.isfinite(norm))):
            poisoned = [i for index, loss in seen for i in index[~torch.isfinite(loss).cpu()].tolist()]
            raise FloatingPointError(
                f"step {self.step}: the loss is {float(total):.4g} and the gradient's norm {float(norm):.4g}; no update was made and "
                f"the weights before it are saved. Samples of process {self.processes.rank} whose loss is not finite: "
                f"{', '.join(map(str, poisoned[:8])) or 'none'}. Lower lr, set clip, or look at these samples"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step)
        self.stepper.step()
        self.step += 1
        self.ema.update(self.backbone, self.step)
        return total, norm

    def _log(self, values: dict[str, float]) -> None:
        counts, sums = (self.processes.total(v).tolist() for v in (self.buckets.counts, self.buckets.sums))
        self.buckets.reset()
        if self.processes.main:
            line = {"step": self.step, **values, "buckets": {"count": counts, "error": sums}}
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
        self.processes.log(values, self.step)

    def _preview(self) -> None:
        """A sheet of samples of the averaged weights, always of the same seeds."""
        if self.processes.main:
            recipe, data = self.recipe, self.recipe.data
            with self.ema.swapped(self.backbone):
                model = Model(
                    self.denoiser, data.shape, data.num_classes, recipe.sampler, recipe.grid, recipe.sampling_steps,
                    recipe.guidance, {"run": self.folder.name, "checkpoint": self.step, "ema": True},
                )  # fmt: skip
                labels = [i % data.num_classes for i in range(16)] if data.num_classes else None
                try:
                    model.sample(range(16), labels).save_sheet(self.folder / "samples" / f"step-{self.step:09d}.png")
                except (FloatingPointError, ValueError) as error:  # a picture is no reason to lose a run
                    warnings.warn(f"no preview at step {self.step}: {error}", stacklevel=2)
        self.processes.wait()

"""Training: from a recipe to a run folder."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..schedules.parts import class_paths
from . import snapshots
from .buckets import NAMES
from .checkpoint import Checkpoint
from .compiling import compile_forward
from .ema import Averages
from .interrupt import Interrupted, Told, signals
from .launch import Processes
from .loading import load
from .memory_probe import OUT_OF_MEMORY, fit_micro_batch, peak_memory
from .model import Model
from .optimizer import from_tensors, to_tensors
from .optimizers import Group
from .plan import check_recipe, learning_rate, plan_batches, validation_data
from .prepared import prepare
from .progress import progress_bar
from .recipe import Recipe
from .recompute import recompute_blocks
from .run_folder import RunFolder
from .save_together import save_together
from .saver import Saver
from .trail import Trail
from .update import NotFinite, Update, Updated
from .validation import Validation

__all__ = ["Run", "train"]

# the optimizer's state of each module, in a checkpoint
_OPTIMIZER = {"model": "optimizer", "head": "head_optimizer"}


def train(
    recipe: Recipe, folder: str | Path, *, resume: bool = False, progress: bool = True, other_data: bool = False
) -> Model:
    """Train a recipe into a run folder: config.yaml, checkpoints/, metrics.jsonl, samples/, tensorboard/.

    On one process, or on several when started by torchrun or `accelerate launch`; the recipe, the data order and every draw are
    the same. A copy of the recipe's backbone is trained, from the weights that it has. SIGINT or SIGTERM saves a checkpoint at the
    next step and raises Interrupted; a second one ends the process at once. SIGUSR1 saves one and goes on.

    Args:
        recipe: what to train.
        folder: the run folder; made when missing. One process (or one group of them) writes it at a time.
        resume: go on from the newest valid checkpoint of the folder, or start when there is none.
        progress: show a bar.
        other_data: let a resumed run go on with data that have changed.

    Returns:
        The trained model (averaged weights), as `load(folder)` gives it.

    Raises:
        ValueError: for parts that do not fit together, a folder that holds a run already or is being written, or a resume under
            another recipe.
        FloatingPointError: when the loss or gradient is not finite; the weights are those before the step.
        MemoryError: when memory runs out; the steps before are saved.
        OSError: when a checkpoint can't be written; the earlier ones are as they were.
        Interrupted: after a signal.
    """
    check_recipe(recipe)
    with signals() as told, threads(recipe.threads):
        run = Run(recipe, Path(folder), told, progress)
        try:
            run.claim(resume, other_data)
            run.go(progress)
        finally:
            run.close()
    # whoever built the recipe's parts trusts their packages
    return load(folder, allow=sorted({path.split(".")[0] for path in class_paths(recipe.describe())}))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """A number of CPU threads, and what it was afterwards; None: as it is."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Run:
    """One run: what it is made of, and its loop.

    Args:
        recipe: what to train.
        path: the run folder; `claim` writes to it, making the run does not.
        told: what signals ask for.
        progress: show bars.

    Raises:
        ValueError: in every process, for data that can't be read, and processes that were started differently.
    """

    def __init__(self, recipe: Recipe, path: Path, told: Told, progress: bool = False) -> None:
        self.recipe = recipe = replace(recipe, backbone=copy.deepcopy(recipe.backbone))
        self.folder, self.told = RunFolder(path, recipe), told
        self.processes = Processes(recipe.precision, recipe.tracker, path / "tensorboard", recipe.parallel)
        plan_batches(recipe.batch, self.processes.count, None)  # refused before anything is made
        self.processes.same("the recipe", repr(recipe.describe()))
        self.prepared = prepare(recipe, self.processes, path, progress)
        self.data = self.prepared.data
        if recipe.precision == "fp64":
            recipe.backbone.double()
        if recipe.compile is not None:
            compile_forward(recipe.backbone, recipe.compile)
        if recipe.gradient_checkpointing:
            recompute_blocks(recipe.backbone)
        self.processes.place(recipe.backbone)
        self.denoiser = recipe.denoiser().to(self.processes.device)
        torch.manual_seed(recipe.seed)  # a head may draw its weights
        self.backbone, self.head = self.denoiser.backbone, recipe.objective.head()
        if self.head is not None:
            self.processes.place(self.head, blocks=False)
        self.plan = fit_micro_batch(recipe, self.processes)
        # decay is the network's: it would pull what a head estimates towards 0
        self.optimizer = recipe.optimizer([Group.of(m, decay=m is self.backbone) for m in self._trained.values()])
        self.averages, self.step, self.saved = Averages(self.backbone, recipe.ema, recipe.ema_lengths), 0, -1
        self.update = Update(
            recipe, self.data, self.prepared.std, self.plan, self.processes, self.denoiser, self.head, self.optimizer
        )
        self.validation = self._validation()
        self.trail, self.saver = Trail(), Saver(recipe.async_save)

    @property
    def _trained(self) -> dict[str, nn.Module]:
        """What the optimizer moves, by the name under which it is saved."""
        return {"model": self.backbone, **({"head": self.head} if self.head is not None else {})}

    def claim(self, resume: bool, other_data: bool) -> None:
        """Take the folder, and go on from its newest checkpoint where it has one; all processes agree whether they may."""
        error: Exception | None = None
        if self.processes.main:
            try:
                self.folder.room(self.checkpoint_bytes())  # before a folder is made
                self.folder.claim(resume, self.data.fingerprint, other_data)
            except (ValueError, OSError) as refused:
                error = refused
        self.processes.agree(error)
        if self.processes.main:
            self.prepared.save(self.folder.path)
        self.processes.start_tracker()
        found = self.folder.newest()
        if found is not None:
            self.restore(found)
            self.saved = self.step
        if self.processes.main:
            self.folder.cut_log(self.step)
            snapshots.cut(self.folder.snapshots, self.step)

    def _validation(self) -> Validation | None:
        recipe = self.recipe
        if not recipe.validate_every:
            return None
        data = validation_data(recipe)
        return Validation(
            data, recipe.schedule, recipe.density, recipe.weighting, recipe.objective, recipe.num_classes, self.prepared.std,
            recipe.seed, recipe.validation_samples, self.plan.micro_batch, self.processes.device,
        )  # fmt: skip

    def look(self) -> None:
        """Take the folder to read it, as a resume would, and write nothing."""
        error: Exception | None = None
        if self.processes.main:
            try:
                self.folder.look(self.data.fingerprint)
            except (ValueError, OSError) as refused:
                error = refused
        self.processes.agree(error)

    def restore(self, found: Checkpoint) -> None:
        """Become the run that saved a checkpoint."""
        for name, module in self._trained.items():
            module.load_state_dict(found.tensors(name, module.state_dict()))
            own = dict(module.named_parameters())
            from_tensors(self.optimizer, module, found.tensors(_OPTIMIZER[name], own))
        like = self.averages.tensors()
        self.averages.restore(lambda name: found.tensors(name, like[name]))
        if "noise_scale" in found.names:
            self.update.noise_scale.restore(found.tensors("noise_scale"))
        if self.update.known is not None:
            self.update.known = found.tensors("density")["known"]
        self.update.skipped = list(found.state["skipped"])
        self.processes.scaler = found.state["scaler"]
        self.step = found.step
        self.trail = Trail()

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint holds, by name."""
        tensors: dict[str, Mapping[str, Tensor]] = {
            **self.averages.tensors(), "noise_scale": self.update.noise_scale.state(),
        }  # fmt: skip
        for name, module in self._trained.items():
            tensors |= {name: module.state_dict(), _OPTIMIZER[name]: to_tensors(self.optimizer, module)}
        if self.update.known is not None:
            tensors["density"] = {"known": self.update.known}
        return tensors

    def room(self, folder: Path, size: int) -> int:
        """The bytes that are free where a run folder would be.

        Raises:
            ValueError: when checkpoints of `size` bytes do not fit there.
        """
        return RunFolder(folder, self.recipe).room(size)

    def checkpoint_bytes(self) -> int:
        """What a checkpoint will take on the disk, about: weights, average, and two moments of the optimizer."""
        weights = sum(v.numel() * v.element_size() for m in self._trained.values() for v in m.state_dict().values())
        return (4 + len(self.recipe.ema_lengths)) * weights

    def save(self) -> None:
        """Publish a checkpoint; when that fails, every process hears of it.

        Raises:
            Exception: what the main process raised, or there was to raise of a save before it.
        """
        error: Exception | None = None
        try:
            self._save_alone()
        except Exception as failed:
            error = failed
        self.processes.agree(error)

    def _save_alone(self) -> None:
        """Publish a checkpoint from the main process, waiting for nobody; from all together, where each holds a part."""
        step = self.step
        state = {
            "data": self.data.fingerprint, "processes": self.processes.count, "trail": self.trail.kept(),
            "skipped": list(self.update.skipped), "scaler": self.processes.scaler,
        }  # fmt: skip
        if self.processes.split:
            save_together(
                self.processes, self.tensors(), lambda whole, more: self.folder.save(step, whole, state, more)
            )
        elif self.processes.main:
            self.saver(self.tensors(), lambda tensors: self.folder.save(step, tensors, state))
        self.saved, self.trail = step, Trail()

    def go(self, progress: bool) -> None:
        """The loop.

        Raises:
            Interrupted: when a signal ended it.
        """
        recipe = self.recipe
        self.backbone.train()
        shown = progress and self.processes.main
        with progress_bar(recipe.steps, self.step, "training", shown) as bar:
            started, done, total = time.monotonic(), 0, 0.0
            while self.step < recipe.steps and not self._asked():
                made = self.make()
                if made.made:
                    done, total = done + 1, total + made.loss
                bar.update()
                if self.step % recipe.log_every == 0 or self.step == recipe.steps:
                    rate = done * recipe.batch / (time.monotonic() - started)
                    mean = float(total) / max(done, 1)
                    self._log(mean, float(made.norm), rate)
                    bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
                    started, done, total = time.monotonic(), 0, 0.0
                if recipe.snapshot_every and self.step % recipe.snapshot_every == 0:
                    self._snapshot()
                if self.validation is not None and self.step % recipe.validate_every == 0:
                    self._validate(self.validation)
                if recipe.save_every and self.step % recipe.save_every == 0:
                    self.save()
                if recipe.sample_every and self.step % recipe.sample_every == 0:
                    self._preview()
        if self.saved != self.step:
            self.save()
        error: Exception | None = None
        try:
            self.saver.wait()
        except Exception as failed:
            error = failed
        self.processes.agree(error)
        if self.step < recipe.steps:
            raise Interrupted(f"stopped at step {self.step} of {recipe.steps}; the checkpoint is saved", self.told.stop)

    def close(self) -> None:
        """End what runs beside the loop, and let others write the folder; also after an error."""
        self.update.feed.close()
        with suppress(Exception):  # said already, or about to be
            self.saver.wait()
        self.processes.close()
        self.folder.release()

    def make(self) -> Updated:
        """One optimizer step, and the average; an error saves what was there before it."""
        try:
            made = self.update(self.step)
        except Exception as error:
            # in parts, only what all processes found can be saved by all
            together = isinstance(error, NotFinite) or not self.processes.split
            if self.step > max(self.saved, 0) and together:
                self._save_alone()
            if isinstance(error, OUT_OF_MEMORY) or ("alloc" in str(error) and "memory" in str(error)):
                raise MemoryError(
                    f"step {self.step}: out of memory; the steps before it are saved. Set micro_batch below {self.plan.micro_batch} "
                    f"(the batch of {self.recipe.batch} stays as it is), or micro_batch: auto ({str(error).splitlines()[0] or 'no more'})"
                ) from error
            raise
        self.trail.add(self.step, made)
        self.step += 1
        self.averages.update(self.backbone, self.step)
        return made

    def _asked(self) -> bool:
        """Do what signals, or a save in the background that failed, ask for; every process must do it at the same step.

        Returns:
            Whether to stop.
        """
        failed = self.saver.failed() is not None
        if self.processes.count > 1:
            asked = torch.tensor([self.told.stop, self.told.save, failed], device=self.processes.device)
            self.told.stop, save, failed = self.processes.gather(asked).view(-1, 3).amax(0).tolist()
        else:
            save = self.told.save
        if failed:
            self._raise_failed()
        self.told.save = False
        if save and self.saved != self.step:
            self.save()
        return bool(self.told.stop)

    def _raise_failed(self) -> None:
        error: Exception | None = None
        try:
            self.saver.wait()
        except Exception as found:
            error = found
        self.processes.agree(error)

    def _log(self, loss: float, norm: float, rate: float) -> None:
        buckets, edm_loss = self.update.take_buckets()
        values = {
            "loss": loss, "edm_loss": edm_loss, "gradient_norm": norm, "lr": learning_rate(self.recipe, self.step - 1),
            "images_per_second": rate, "memory_mib": peak_memory(self.processes.device) / 2**20,
        }  # fmt: skip
        scale = self.update.noise_scale.read().scale
        if scale is not None:
            values["noise_scale"] = scale
        if self.update.skipped[0]:
            values["skipped"] = self.update.skipped[0]
        if self.processes.main:
            self.folder.log({"step": self.step, **values, "buckets": buckets})
        errors = [
            (f"error/log_snr_{name}", error / count)
            for name, count, error in zip(NAMES, buckets["count"], buckets["error"], strict=True) if count
        ]  # fmt: skip
        self.processes.log({**values, **dict(errors)}, self.step)

    def _snapshot(self) -> None:
        """Store the averages of this step, from which others are made afterwards."""
        error: Exception | None = None
        try:
            snapshots.save(
                self.folder.snapshots, self.step, self.averages, self.recipe.snapshot_dtype, main=self.processes.main
            )
        except Exception as failed:
            error = failed
        self.processes.agree(error)

    def _validate(self, validation: Validation) -> None:
        """The loss of the averaged weights on samples that are not trained on."""
        processes = self.processes
        with self.averages.swapped(self.backbone):
            answers = validation.partial(self.denoiser, self.head, processes.rank, processes.count)
        found = validation.result(processes.total(answers))
        if processes.main:
            self.folder.log({"step": self.step, "validation": found._asdict()})
        processes.log({"validation/loss": found.loss, "validation/edm_loss": found.edm_loss}, self.step)

    def _preview(self) -> None:
        """A sheet of samples of the averaged weights, always of the same seeds; left out when a signal wants the run to stop."""
        # a network in parts is asked by all processes, each for the same pictures
        if self.processes.main or self.processes.split:
            recipe = self.recipe
            source = {"run": self.folder.path.name, "checkpoint": self.step, "ema": True}
            labels = [i % recipe.num_classes for i in range(16)] if recipe.num_classes else None
            with self.averages.swapped(self.backbone):
                model = Model(
                    self.denoiser, recipe.data.shape, recipe.num_classes, recipe.sampler, recipe.grid, recipe.sampling_steps,
                    recipe.guidance, source, recipe.label_dropout > 0,
                )  # fmt: skip
                watch = self.backbone.register_forward_pre_hook(self._leave_preview)
                try:
                    drawn = model.sample(range(16), labels)
                    if self.processes.main:
                        sheet = self.folder.preview(self.step)
                        drawn.save_sheet(sheet)
                        self.processes.picture("samples", sheet, self.step)
                except _Leave:
                    pass
                except Exception as error:  # a picture is no reason to lose a run
                    warnings.warn(f"no preview at step {self.step}: {error}", stacklevel=2)
                finally:
                    watch.remove()
        self.processes.wait()

    def _leave_preview(self, *called: object) -> None:
        if self.told.stop and not self.processes.split:
            raise _Leave


class _Leave(Exception):
    """A preview that nobody waits for any more."""

"""One run: what it is made of, what of it is saved, and a step of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import snapshots
from .backbones.attention_probe import set_attention
from .checkpoint import Checkpoint
from .choice import chosen, computes_in, measures, settle
from .compiling import compile_forward
from .ema import Averages
from .interrupt import Told
from .launch import Processes
from .memory_format import set_memory_format
from .memory_probe import fit_micro_batch, out_of_memory
from .observer import Observer
from .optimizer import from_tensors, to_tensors
from .optimizers import Group
from .plan import plan_batches
from .prepared import prepare
from .recipe import Recipe
from .recompute import recompute_blocks
from .run_folder import RunFolder
from .save_together import save_together
from .saver import Saver
from .sharding import local
from .trail import Trail
from .update import NotFinite, Update, Updated

__all__ = ["Run"]

# the optimizer's state of each module, in a checkpoint
_OPTIMIZER = {"model": "optimizer", "head": "head_optimizer"}


class Run:
    """One run.

    Args:
        recipe: what to train.
        path: the run folder; `claim` writes to it, making the run does not.
        told: what signals ask for.
        progress: show bars.

    Attributes:
        asked_for, recipe: the recipe with and without `auto` for precision and memory format.
        choice: what `auto` came to, or None; chose: whether it was measured just now.

    Raises:
        ValueError: in every process, for data that can't be read, and processes that were started differently.
    """

    def __init__(self, recipe: Recipe, path: Path, told: Told, progress: bool = False) -> None:
        self.asked_for = self.recipe = recipe = replace(recipe, backbone=copy.deepcopy(recipe.backbone))
        self.choice: dict[str, Any] | None = None
        self.chose = False
        self.folder, self.told = RunFolder(path, recipe), told
        self.processes = self._start(settle(recipe, None), path)
        plan_batches(recipe.batch, self.processes.count, None)  # refused before anything is made
        self.processes.same("the recipe", repr(recipe.describe()))
        self.prepared = prepare(recipe, self.processes, path, progress, told)
        self.data = self.prepared.data
        if recipe.precision == "fp64":
            recipe.backbone.double()
        set_attention(
            recipe.backbone, recipe.attention, self.processes.device, computes_in(recipe.precision), training=True
        )
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
        self.recipe = recipe = self._settled(recipe, path)
        if recipe.memory_format == "channels_last":
            set_memory_format(recipe.backbone, "channels_last")
        # decay is the network's: it would pull what a head estimates towards 0
        self.optimizer = recipe.optimizer([Group.of(m, decay=m is self.backbone) for m in self._trained.values()])
        self.update = Update(
            recipe, self.data, self.prepared.std, self.plan, self.processes, self.denoiser, self.head, self.optimizer
        )
        # after it, which lets all processes have the weights of the first
        self.averages, self.step, self.saved = Averages(self.backbone, recipe.ema, recipe.ema_lengths), 0, -1
        self.trail, self.saver = Trail(), Saver(recipe.async_save)
        self.observer = Observer(
            recipe,
            self.prepared.std,
            self.plan,
            self.processes,
            self.denoiser,
            self.head,
            self.update,
            self.averages,
            self.folder,
            told,
        )

    def _start(self, recipe: Recipe, path: Path) -> Processes:
        return Processes(recipe.precision, recipe.tracker, path / "tensorboard", recipe.parallel)

    def _settled(self, recipe: Recipe, path: Path) -> Recipe:
        """The recipe with a choice in place of `auto`: that of the newest checkpoint, or measured now."""
        if not measures(recipe):
            return recipe
        found = self.folder.newest()
        self.choice = None if found is None else found.state.get("chosen")
        if self.choice is None:
            self.choice, self.chose = chosen(recipe, self.processes, self.plan.micro_batch), True
        settled = settle(recipe, self.choice)
        if settled.precision != "fp32" and recipe.precision == "auto":
            self.processes = self._start(settled, path)
        return settled

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
                self.prepared.save(self.folder.path)
            except (ValueError, OSError) as refused:
                error = refused
        self.processes.agree(error)
        self.processes.start_tracker()
        found = self.folder.newest()
        self.processes.same("the newest checkpoint", "none" if found is None else str(found.step))
        if found is not None:
            self.restore(found)
            self.saved = self.step
        error = None
        if self.processes.main:
            try:
                self.folder.cut_log(self.step)
                if self.chose:
                    self.folder.log({"step": self.step, "chosen": self.choice})
                snapshots.cut(self.folder.snapshots, self.step)
            except OSError as failed:
                error = failed
        self.processes.agree(error)

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
        self.observer.restore(found)
        if self.update.known is not None:
            self.update.known = found.tensors("density")["known"]
        self.update.skipped = list(found.state["skipped"])
        self.processes.scaler = found.state["scaler"]
        self.step = found.step
        self.trail = Trail()

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """What a checkpoint holds, by name."""
        tensors: dict[str, Mapping[str, Tensor]] = {
            **self.averages.tensors(), **self.observer.tensors(),
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

    def held(self) -> tuple[int, int, int]:
        """What this process holds: numbers of the weights, their bytes, and bytes of the optimizer's state and of the averages."""
        tensors = self.tensors()
        weights = [local(v) for module in self._trained.values() for v in module.parameters()]
        beside = [local(v) for name, group in tensors.items() if name not in self._trained for v in group.values()]
        sizes = [sum(v.numel() * v.element_size() for v in values) for values in (weights, beside)]
        return sum(v.numel() for v in weights), sizes[0], sizes[1]

    def save(self) -> None:
        """Publish a checkpoint; when that fails, every process hears of it.

        Raises:
            Exception: what the main process raised, or there was to raise of a save before it.
        """
        error: Exception | None = None
        self.observer.share()
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
            **({} if self.choice is None else {"chosen": self.choice}),
        }  # fmt: skip
        if self.processes.split:
            save_together(
                self.processes, self.tensors(), lambda whole, more: self.folder.save(step, whole, state, more)
            )
        elif self.processes.main:
            self.saver(self.tensors(), lambda tensors: self.folder.save(step, tensors, state))
        self.saved, self.trail = step, Trail()

    def snapshot(self) -> None:
        """Store the averages of this step, from which others are made afterwards."""
        error: Exception | None = None
        try:
            snapshots.save(
                self.folder.snapshots, self.step, self.averages, self.recipe.snapshot_dtype, main=self.processes.main
            )
        except Exception as failed:
            error = failed
        self.processes.agree(error)

    def make(self) -> Updated:
        """One optimizer step, and the average; an error saves what was there before it."""
        try:
            with self.observer.watching(self.step + 1):
                made = self.update(self.step)
        except Exception as error:
            # in parts, only what all processes found can be saved by all
            together = isinstance(error, NotFinite) or not self.processes.split
            whole = self.update.whole
            if self.step > max(self.saved, 0) and together and whole:
                self._save_alone()
            saved = "the steps before it are saved" if whole else "nothing is saved of a step that was half made"
            if not together:
                saved = f"the steps up to {max(self.saved, 0)} are saved"
            if out_of_memory(error):
                why = (str(error).splitlines() or ["no more"])[0]  # Python's own says nothing
                raise MemoryError(
                    f"step {self.step}: out of memory; {saved}. Set micro_batch below {self.plan.micro_batch} "
                    f"(the batch of {self.recipe.batch} stays as it is), or micro_batch: auto ({why})"
                ) from error
            raise
        self.trail.add(self.step, made)
        self.step += 1
        self.averages.update(self.backbone, self.step)
        return made

    def asked(self) -> bool:
        """Do what signals, or a save in the background that failed, ask for; every process must do it at the same step.

        Returns:
            Whether to stop.
        """
        failed, stop, save = self.saver.failed() is not None, self.told.stop, self.told.save
        if save:
            self.told.save = False
        if self.processes.count > 1:
            asked = torch.tensor([stop, save, failed], device=self.processes.device)
            stop, save, failed = self.processes.gather(asked).view(-1, 3).amax(0).tolist()
            if stop:  # never the other way round: a signal may have come meanwhile
                self.told.stop = stop
        if failed:
            self.finish_save()
        if save and self.saved != self.step:
            self.save()
        return bool(stop)

    def finish_save(self) -> None:
        """Wait for a save in the background; when it failed, every process hears of it.

        Raises:
            Exception: what the main process raised.
        """
        error: Exception | None = None
        try:
            self.saver.wait()
        except Exception as found:
            error = found
        self.processes.agree(error)

    def close(self) -> None:
        """End what runs beside the loop, and let others write the folder; also after an error."""
        self.update.feed.close()
        with suppress(Exception):  # said already, or about to be
            self.saver.wait()
        self.processes.close()
        self.folder.release()

"""A run folder: config.yaml, checkpoints/, metrics.jsonl, samples/, and whether it may be used."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
import yaml
from torch import Tensor

from .checkpoint import Checkpoint, any_folder, newest, own_version, save, valid
from .latents import latents_of
from .lock import RunLock
from .publish import room
from .recipe import Recipe
from .texts import encoder_identity
from .whole_file import replace_text

__all__ = ["RunFolder"]

# A resumed run may change these; the others are refused. Not all of them leave it the same run: steps stretches the learning
# rate (a warning says so), and micro_batch regroups what a network with dropout draws.
_FREE = {
    "steps", "micro_batch", "threads", "log_every", "sample_every", "save_every", "keep", "sampler", "grid", "sampling_steps",
    "guidance", "validation", "validate_every", "validation_samples", "snapshot_every", "snapshot_dtype", "workers", "corrupt",
    "corrupt_limit", "nonfinite", "nonfinite_limit", "async_save", "tracker", "parallel", "gradient_checkpointing", "compile",
    "memory_format", "attention",
    "prompts", "vae",
}  # fmt: skip


class RunFolder:
    """The folder of one run of a recipe.

    Args:
        path: where; made by `claim`.
        recipe: what is trained there.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        # described now: a network that is split over processes is of another class afterwards
        self.path, self.recipe, self._described = path, recipe, recipe.describe()
        self._checkpoints, self._log = path / "checkpoints", path / "metrics.jsonl"
        self.snapshots = path / "snapshots"
        self._lock: RunLock | None = None

    def claim(self, resume: bool, fingerprint: str, other_data: bool = False) -> None:
        """Take the folder for this recipe until `release`, and write its config.

        Args:
            resume: whether it may hold a run.
            fingerprint: of the data that will be trained on.
            other_data: whether a resume may go on with other data.

        Raises:
            ValueError: when another process writes it, it holds a run and this is no resume, a resume under another recipe or of other
                data, checkpoints none of which is valid, or when it can't be written.
        """
        existed = self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = RunLock(self.path)
        except OSError as error:
            raise ValueError(f"the run folder {self.path} can't be written: {error}") from error
        try:
            self._begin(resume, fingerprint, other_data)
        except ValueError:
            self.release()
            if not existed:
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def refuse(self, resume: bool) -> None:
        """Refuse a folder that holds a run, unless that is to be gone on with.

        Raises:
            ValueError: saying what to do.
        """
        if not resume and (self.path / "config.yaml").is_file():
            raise ValueError(
                f"{self.path} holds a run already; go on with it by --resume, or choose another folder by --out"
            )

    def release(self) -> None:
        """Let others write the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def look(self, fingerprint: str) -> None:
        """Take the folder of a run until `release`, and write nothing but the lock.

        Raises:
            ValueError: when it holds no run, another process writes it, or it is one of another recipe or other data.
        """
        if not (self.path / "config.yaml").is_file():
            raise ValueError(f"{self.path} holds no run")
        self._lock = RunLock(self.path)
        found = self.newest()
        if found is not None:
            self._compare(found, fingerprint, False)

    def _begin(self, resume: bool, fingerprint: str, other_data: bool) -> None:
        config = self.path / "config.yaml"
        self.refuse(resume)
        found = self.newest() if config.is_file() else None
        if found is None and any_folder(self._checkpoints):
            raise ValueError(
                f"no checkpoint in {self._checkpoints} is valid; move the folder away to start again from nothing"
            )
        if found is not None:
            self._compare(found, fingerprint, other_data)
        try:
            self._checkpoints.mkdir(exist_ok=True)
            with TemporaryFile(dir=self._checkpoints):  # said now, not when the first one is to be saved
                pass
            replace_text(config, yaml.safe_dump(self._described, sort_keys=False))
        except OSError as error:
            raise ValueError(f"the run folder {self.path} can't be written: {error}") from error

    def _compare(self, found: Checkpoint, fingerprint: str, other_data: bool) -> None:
        """Refuse to resume a checkpoint of another recipe, or of other data."""
        recipe, new = self.recipe, self._described
        # a run of an earlier version lacks the keys that came later; it was made with what are their defaults
        old = {**Recipe.defaults(), **found.state["recipe"]}
        if recipe.steps < found.step:
            raise ValueError(f"steps is {recipe.steps}, but {self.path} has done {found.step}; allowed: at least that")
        if recipe.steps != old["steps"]:
            warnings.warn(
                f"steps was {old['steps']} and is {recipe.steps}: the learning rate follows the new length from here on",
                stacklevel=2,
            )
        # data may have moved: what counts is their kind and fingerprint
        kept = [k for k in new if k not in _FREE and k != "data"]
        # nor does it matter where a text encoder is, when it is the same
        old, new = ({**d, "text": encoder_identity(d.get("text"))} for d in (old, new))
        wrong = [line for k in kept for line in _differences(old.get(k), new[k], k)]
        if old["data"]["class_path"] != new["data"]["class_path"]:
            wrong.append(f"data was {old['data']['class_path']}, is {new['data']['class_path']}")
        if not wrong and found.state["data"] != fingerprint:
            changed = f"the data had the fingerprint {found.state['data']}, now {fingerprint}"
            if not other_data:
                raise ValueError(
                    f"{self.path} can't be resumed, since {changed}: files were added, removed or changed. Put them back, start a new run "
                    "in another folder, or say --other_data to go on as another run than it was"
                )
            warnings.warn(f"{changed}: from here on this is another run than it was", stacklevel=2)
        if wrong:
            raise ValueError(
                f"{self.path} can't be resumed under another recipe: {'; '.join(wrong)}. Start a new run in another folder"
            )

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint, or None."""
        return newest(self._checkpoints)

    def valid(self) -> list[Checkpoint]:
        """The valid checkpoints, newest first."""
        return valid(self._checkpoints)

    def room(self, size: int) -> int:
        """The bytes that are free on the disk.

        Raises:
            ValueError: when the run's checkpoints of `size` bytes do not fit, with the bytes needed and those free.
        """
        there = next(p for p in (self.path, *self.path.absolute().parents) if p.is_dir())
        kept = min(self.recipe.keep + 1, 1 + self.recipe.steps // (self.recipe.save_every or self.recipe.steps))
        kept = max(1, kept - len(list(self._checkpoints.glob("step-*"))))
        try:
            room(there, size * kept)
        except OSError as error:
            raise ValueError(
                f"keep is {self.recipe.keep}, so that there will be {kept} checkpoints more, of {size / 2**20:.1f} MiB each: {error}"
            ) from error
        return shutil.disk_usage(there).free

    def save(
        self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any],
        more: Callable[[Path], None] | None = None,
    ) -> None:  # fmt: skip
        """Publish a checkpoint of optimizer step `step`.

        Args:
            step: optimizer steps done.
            tensors: by name.
            state: what else to save, JSON-able.
            more: writes further files into the checkpoint.
        """
        own = {
            "shape": list(self.recipe.data.shape), "num_classes": self.recipe.num_classes, "recipe": self._described,
            "versions": {"sfumato": own_version(), "torch": torch.__version__}, "latents": latents_of(self.recipe.data),
        }  # fmt: skip
        save(self._checkpoints, step, tensors, {**own, **state}, self.recipe.keep, more)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with self._log.open("a") as file:
            file.write(json.dumps(dict(line)) + "\n")

    def cut_log(self, step: int) -> None:
        """Drop the lines of steps after `step`, which will be made and logged again, and what a killed process left half."""
        kept: list[str] = []
        for line in self._log.read_text(errors="replace").splitlines() if self._log.is_file() else []:
            with suppress(json.JSONDecodeError, KeyError, TypeError):
                kept += [line] if json.loads(line)["step"] <= step else []
        replace_text(self._log, "".join(f"{line}\n" for line in kept))

    def preview(self, step: int) -> Path:
        """Where the preview of a step goes."""
        return self.path / "samples" / f"step-{step:09d}.png"


def _differences(old: Any, new: Any, at: str) -> list[str]:
    """What differs between two descriptions, one line per value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("class_path") == new.get("class_path"):
        keys = [*new, *(k for k in old if k not in new)]
        place = {k: at if k == "init_args" else f"{at}.{k}" for k in keys}
        return [line for k in keys for line in _differences(old.get(k), new.get(k), place[k])]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        old, new = old.get("class_path", old), new.get("class_path", new)
    return [] if old == new else [f"{at} was {old}, is {new}"]

"""A run folder: config.yaml, checkpoints/, metrics.jsonl, samples/, and whether it may be used."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from .checkpoint import Checkpoint, any_folder, newest, save
from .recipe import Recipe

__all__ = ["RunFolder"]

# A resumed run may change these; the others are refused. Not all of them leave it the same run: steps stretches the learning
# rate (a warning says so), and micro_batch regroups what a network with dropout draws.
_FREE = {
    "steps", "micro_batch", "threads", "log_every", "sample_every", "save_every", "keep", "sampler", "grid", "sampling_steps",
    "guidance",
}  # fmt: skip


class RunFolder:
    """The folder of one run of a recipe.

    Args:
        path: where; made by `claim`.
        recipe: what is trained there.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe
        self._checkpoints, self._log = path / "checkpoints", path / "metrics.jsonl"

    def claim(self, resume: bool) -> None:
        """Look whether the folder may be used for this recipe, and write its config.

        Raises:
            ValueError: when it holds a run and this is no resume, a resume under another recipe or of other data, checkpoints none of
                which is valid, or when it can't be written.
        """
        config = self.path / "config.yaml"
        if config.is_file() and not resume:
            raise ValueError(
                f"{self.path} holds a run already; go on with it by --resume, or choose another folder by --out"
            )
        found = self.newest() if config.is_file() else None
        if found is None and any_folder(self._checkpoints):
            raise ValueError(
                f"no checkpoint in {self._checkpoints} is valid; move the folder away to start again from nothing"
            )
        if found is not None:
            self._compare(found)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._replace(config, yaml.safe_dump(self.recipe.describe(), sort_keys=False))
        except OSError as error:
            raise ValueError(f"the run folder {self.path} can't be written: {error}") from error

    def _compare(self, found: Checkpoint) -> None:
        """Refuse to resume a checkpoint of another recipe, or of other data."""
        recipe, new = self.recipe, self.recipe.describe()
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
        wrong = [line for k in kept for line in _differences(old.get(k), new[k], k)]
        if old["data"]["class_path"] != new["data"]["class_path"]:
            wrong.append(f"data was {old['data']['class_path']}, is {new['data']['class_path']}")
        if not wrong and found.state["data"] != recipe.data.fingerprint:
            wrong = [f"the data had the fingerprint {found.state['data']}, now {recipe.data.fingerprint}"]
        if wrong:
            raise ValueError(
                f"{self.path} can't be resumed under another recipe: {'; '.join(wrong)}. Start a new run in another folder"
            )

    def newest(self) -> Checkpoint | None:
        """The newest valid checkpoint, or None."""
        return newest(self._checkpoints)

    def save(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Publish a checkpoint of optimizer step `step`."""
        data = self.recipe.data
        state = {
            "data": data.fingerprint, "shape": list(data.shape), "num_classes": self.recipe.num_classes, "recipe": self.recipe.describe(),
        }  # fmt: skip
        save(self._checkpoints, step, tensors, state, self.recipe.keep)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with self._log.open("a") as file:
            file.write(json.dumps(dict(line)) + "\n")

    def cut_log(self, step: int) -> None:
        """Drop the lines of steps after `step`, which will be made and logged again, and what a killed process left half."""
        kept: list[str] = []
        for line in self._log.read_text().splitlines() if self._log.is_file() else []:
            with suppress(json.JSONDecodeError):
                kept += [line] if json.loads(line)["step"] <= step else []
        self._replace(self._log, "".join(f"{line}\n" for line in kept))

    def preview(self, step: int) -> Path:
        """Where the preview of a step goes."""
        return self.path / "samples" / f"step-{step:09d}.png"

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        """Write a file whole or not at all."""
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(text)
        os.replace(temporary, path)


def _differences(old: Any, new: Any, at: str) -> list[str]:
    """What differs between two descriptions, one line per value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get("class_path") == new.get("class_path"):
        keys = [*new, *(k for k in old if k not in new)]
        place = {k: at if k == "init_args" else f"{at}.{k}" for k in keys}
        return [line for k in keys for line in _differences(old.get(k), new.get(k), place[k])]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        old, new = old.get("class_path", old), new.get("class_path", new)
    return [] if old == new else [f"{at} was {old}, is {new}"]

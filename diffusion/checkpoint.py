"""Checkpoints: staged in a temporary folder, hashed, and published by one rename. safetensors and JSON only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = ["FORMAT", "Checkpoint", "at_step", "newest", "save"]

FORMAT = 1
_PREFIX = "step-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose hashes have been verified.

    folder: where it is. step: optimizer steps done. state: what was saved beside the tensors.
    """

    folder: Path
    step: int
    state: dict[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors saved under a name: "model", "ema", "optimizer", and where there are, "head", "head_optimizer", "density"."""
        assert (self.folder / f"{name}.safetensors").parent == self.folder
        return load_file(self.folder / f"{name}.safetensors")


def _sync(path: Path) -> None:
    """Force a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
) -> Path:
    """Publish a checkpoint under root, then remove the oldest beyond `keep`.

    A process that is killed at any moment leaves the earlier checkpoints as they were: this one appears whole, by a rename.

    Args:
        root: the folder of checkpoints.
        step: optimizer steps done; names the folder.
        tensors: name -> tensors, each name one file.
        state: JSON-able.
        keep: how many to keep, >= 1.
    """
    root.mkdir(parents=True, exist_ok=True)
    for left in root.glob(".stage-*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    stage = root / f".stage-{uuid.uuid4().hex}"
    stage.mkdir()
    try:
        for name, values in tensors.items():
            # copies, since safetensors refuses tensors that share memory (tied weights)
            copies = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in values.items()}
            save_file(copies, stage / f"{name}.safetensors")
        (stage / "state.json").write_text(json.dumps(dict(state), indent=1))
        files = sorted(p for p in stage.iterdir())
        manifest = {
            "format": FORMAT,
            "step": step,
            "files": {p.name: {"sha256": _hash(p), "bytes": p.stat().st_size} for p in files},
        }
        (stage / "manifest.json").write_text(json.dumps(manifest, indent=1))
        for path in (*files, stage / "manifest.json", stage):
            _sync(path)
        final = root / f"{_PREFIX}{step:09d}"
        if final.exists():
            aside = root / f".stage-{uuid.uuid4().hex}"
            os.replace(final, aside)
            os.replace(stage, final)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.replace(stage, final)
        _sync(root)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    _retire(root, final, keep)
    return final


def _retire(root: Path, published: Path, keep: int) -> None:
    """Remove checkpoints older than the published one, beyond the newest keep - 1 that are valid. Newer ones are not touched:
    only invalid ones can be newer, and they are passed over with a warning."""
    kept = 1
    for folder in _folders(root):
        if folder.name >= published.name:
            continue
        if kept < keep and _is_valid(folder):
            kept += 1
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _is_valid(folder: Path) -> bool:
    try:
        _verified(folder)
    except ValueError:
        return False
    return True


def _folders(root: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    ours = re.compile(rf"{_PREFIX}\d{{9,}}")  # not a copy that somebody has put beside them
    return sorted((p for p in root.glob(f"{_PREFIX}*") if p.is_dir() and ours.fullmatch(p.name)), reverse=True)


def _verified(folder: Path) -> Checkpoint:
    """A checkpoint whose files are those of its manifest.

    Raises:
        ValueError: saying what is wrong with it.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"it has format {manifest['format']}, this version reads format {FORMAT}")
        if folder.name != f"{_PREFIX}{manifest['step']:09d}":
            raise ValueError(f"its manifest is that of step {manifest['step']}")
        missing = {"state.json", "model.safetensors"} - set(manifest["files"])
        if missing:
            raise ValueError(f"its manifest lacks {', '.join(sorted(missing))}")
        for name, known in manifest["files"].items():
            path = folder / name
            if path.parent != folder or path.stat().st_size != known["bytes"] or _hash(path) != known["sha256"]:
                raise ValueError(f"{name} is not the file that was saved")
        return Checkpoint(folder, int(manifest["step"]), json.loads((folder / "state.json").read_text()))
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def newest(root: Path) -> Checkpoint | None:
    """The newest valid checkpoint under root, or None; warns of each newer one that is not valid, and why."""
    for folder in _folders(root):
        try:
            return _verified(folder)
        except ValueError as error:
            warnings.warn(f"checkpoint {folder} is skipped: {error}", stacklevel=2)
    return None


def at_step(root: Path, step: int) -> Checkpoint:
    """The checkpoint of optimizer step `step` under root.

    Raises:
        ValueError: when there is none, naming those that there are, or when it is not valid.
    """
    folder = root / f"{_PREFIX}{step:09d}"
    if not folder.is_dir():
        there = ", ".join(str(int(p.name.removeprefix(_PREFIX))) for p in reversed(_folders(root)))
        raise ValueError(
            f"step is {step}, of which {root} holds no checkpoint; allowed: {there or 'none, it is empty'}"
        )
    try:
        return _verified(folder)
    except ValueError as error:
        raise ValueError(f"checkpoint {folder} is not valid: {error}") from error


def any_folder(root: Path) -> bool:
    """Whether there are checkpoints at all, valid or not."""
    return bool(_folders(root))

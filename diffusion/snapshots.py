"""Snapshots of the power averages during training, from which averages of other lengths are made afterwards."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from .ema import Averages
from .profiles import name_of
from .publish import discard, publish, verify

__all__ = ["FORMAT", "Snapshot", "cut", "read", "save"]

FORMAT = 1
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Snapshot:
    """Averages of one step on disk, whose hashes have been verified.

    step: optimizer steps done. files: by length. averaged: the keys that are averages; the others are copies.
    """

    step: int
    files: dict[float, Path]
    averaged: frozenset[str]


def save(
    root: Path,
    step: int,
    averages: Averages,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    *,
    main: bool = True,
) -> None:
    """Publish the power averages of a step under root, by one rename.

    What is there already is left if it is the same, and replaced if not. Where averages are sharded, every process calls it.

    Args:
        root: the folder of snapshots, RUN/snapshots.
        step: optimizer steps done, >= 1.
        averages: whose power functions to store.
        dtype: of what is stored; a tensor whose numbers float16 can't hold stays as it is.
        main: whether this process writes.

    Raises:
        ValueError: when there is no power function to store, or no such dtype.
    """
    if not averages.lengths:
        raise ValueError("snapshot_every needs ema_lengths, such as [0.05, 0.1]: a snapshot holds power functions")
    if dtype not in _DTYPES:
        raise ValueError(f"snapshot_dtype is {dtype!r}; allowed: {', '.join(_DTYPES)}")
    states = averages.tensors()
    # gathered before anything is written: nobody waits for a process that can't write
    whole = {
        name: {k: _stored(_whole(v), k in averages.averaged, _DTYPES[dtype]) for k, v in states[name].items()}
        for name in map(name_of, averages.lengths)
    }
    if not main:
        return

    def write(folder: Path) -> None:
        for name, state in whole.items():
            save_file(state, folder / f"{name}.safetensors")

    needed = sum(v.numel() * v.element_size() for state in whole.values() for v in state.values())
    facts = {"format": FORMAT, "step": step, "averaged": sorted(averages.averaged), "lengths": list(averages.lengths)}
    publish(root, _name(step), write, facts, needed, replace=True)


def cut(root: Path, step: int) -> None:
    """Remove the snapshots of steps after `step`, where a run is resumed: they will be made again, of what is trained then."""
    for folder in _folders(root):
        if _step(folder) > step:
            discard(folder)


def read(root: Path, last: int | None = None) -> list[Snapshot]:
    """The valid snapshots under root by step; warns of each that is not, and leaves it out.

    Args:
        root: the folder of snapshots; one that is not there holds none.
        last: those after the first at or beyond this step are left alone; None: all.
    """
    found: list[Snapshot] = []
    for folder in _folders(root):
        if last is not None and found and found[-1].step >= last:
            break
        try:
            found.append(_verified(folder))
        except ValueError as error:
            warnings.warn(f"snapshot {folder} is left out: {error}", stacklevel=2)
    return found


def _name(step: int) -> str:
    return f"step-{step:09d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _folders(root: Path) -> list[Path]:
    """Snapshot folders, oldest first."""
    ours = [p for p in root.glob("step-*") if p.is_dir() and re.fullmatch(r"step-\d{9,}", p.name)]
    return sorted(ours, key=_step)


def _whole(tensor: Tensor) -> Tensor:
    """A tensor of all processes, on the host and by itself, since safetensors refuses what shares memory."""
    whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore[reportAttributeAccessIssue]
    return whole.detach().to("cpu", copy=True).contiguous()


def _stored(tensor: Tensor, averaged: bool, dtype: torch.dtype) -> Tensor:
    """A tensor as it is stored."""
    if not averaged or not tensor.is_floating_point():
        return tensor
    small = tensor.to(dtype)
    return small if bool((torch.isfinite(small) | ~torch.isfinite(tensor)).all()) else tensor


def _verified(folder: Path) -> Snapshot:
    """A snapshot whose files are those of its manifest.

    Raises:
        ValueError: saying what is wrong with it.
    """
    manifest = verify(folder)
    try:
        if manifest["format"] != FORMAT:
            raise ValueError(f"it has format {manifest['format']}, this version reads format {FORMAT}")
        if _name(manifest["step"]) != folder.name:
            raise ValueError(f"its manifest is that of step {manifest['step']}")
        files = {float(n): folder / f"{name_of(float(n))}.safetensors" for n in manifest["lengths"]}
        if {path.name for path in files.values()} != set(manifest["files"]):
            raise ValueError(f"its manifest has the lengths {manifest['lengths']} and other files")
        return Snapshot(int(manifest["step"]), files, frozenset(map(str, manifest["averaged"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error

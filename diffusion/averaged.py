"""Averages of a run folder: which are stored, which were made, and the weights of one that was asked for."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from .checkpoint import Checkpoint, newest
from .posthoc import Fit, Stored, fit, reconstruct
from .profiles import Power, length_in, name_of
from .snapshots import read
from .whole_file import file_hash, sync

__all__ = ["Kept", "file_of", "kept_by", "make", "weights_of"]

FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """The power averages that a run folder holds, by step.

    run: the folder. step: that of the newest checkpoint, or of the newest snapshot where there is none; 0: nothing. stored: each (step,
    length) once, a checkpoint's before a snapshot's, which may be rounded.
    """

    run: Path
    step: int
    stored: tuple[Stored, ...]

    def until(self, step: int) -> list[Stored]:
        """Those that serve for a step: all before it and the first beyond."""
        beyond = min((one.step for one in self.stored if one.step >= step), default=step)
        return [one for one in self.stored if one.step <= beyond]

    def fit(self, length: float, step: int) -> Fit:
        """The sum of what is stored that is nearest to a length at a step.

        Raises:
            ValueError: naming the key, when it can't be made here.
        """
        wanted = Power(length)
        if not self.stored:
            raise ValueError(
                f"{self.run} holds no averages of other lengths; train with --ema_lengths [0.05,0.1] --snapshot_every N, or sample with "
                "--ema true (the exponential average) or false"
            )
        last = max(one.step for one in self.stored)
        if not 1 <= step <= last:
            raise ValueError(f"step is {step}; allowed: 1 to {last}, the last of which {self.run} holds averages")
        return fit(wanted, step, [(one.step, one.length) for one in self.until(step)])


def kept_by(run: Path, checkpoint: Checkpoint | None = None, last: int | None = None) -> Kept:
    """What a run folder holds; warns of damaged snapshots.

    Args:
        run: the folder.
        checkpoint: whose averages to take in; None: the newest valid one, if there is one.
        last: snapshots after the first at or beyond this step are left alone; None: all.
    """
    checkpoint = newest(run / "checkpoints") if checkpoint is None else checkpoint
    snapshots = read(run / "snapshots", last)
    found = {
        (s.step, length): Stored(s.step, length, path, s.averaged)
        for s in snapshots
        for length, path in s.files.items()
    }
    averaged = next((s.averaged for s in reversed(snapshots)), None)
    for path in sorted(checkpoint.folder.glob("ema-*.safetensors")) if checkpoint is not None else []:
        length = length_in(path.stem)
        if length is not None and checkpoint is not None:
            found[checkpoint.step, length] = Stored(checkpoint.step, length, path, averaged)
    newest_step = checkpoint.step if checkpoint is not None else max((s.step for s in snapshots), default=0)
    return Kept(run, newest_step, tuple(found[key] for key in sorted(found)))


def file_of(folder: Path, length: float, step: int | None = None) -> Path:
    """Where an average is written: length-0.120.safetensors, or with the step, length-0.120-step-000001000.safetensors."""
    words = f"{length:.3f}" if round(length, 3) == length else repr(float(length))
    return folder / f"length-{words}{'' if step is None else f'-step-{step:09d}'}.safetensors"


def make(kept: Kept, found: Fit, length: float, path: Path) -> None:
    """Make the average of a fit, and write it with a JSON of what it is made of, each whole or not at all.

    Args:
        kept: what the run holds.
        found: of `kept.fit`.
        length: of the fit.
        path: of the safetensors; the JSON lies beside it.
    """
    tensors = reconstruct(found, kept.until(found.step))
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f".{path.name}")
    note = staged.with_suffix(".json")
    try:
        save_file(tensors, staged)
        said = {
            "format": FORMAT, "length": length, "step": found.step, "residual": found.residual, "gain": found.gain,
            "sha256": file_hash(staged), "bytes": staged.stat().st_size,
            "of": [{"step": s, "length": n, "share": x} for (s, n), x in zip(found.stored, found.shares.tolist(), strict=True)],
        }  # fmt: skip
        note.write_text(json.dumps(said, indent=1))
        for each in (staged, note):
            sync(each)
        # a kill between the two leaves a JSON that is not of the tensors, which is found by its hash
        os.replace(staged, path)
        os.replace(note, path.with_suffix(".json"))
        sync(path.parent)
    finally:
        for each in (staged, note):
            each.unlink(missing_ok=True)


def weights_of(
    run: Path, length: float, checkpoint: Checkpoint, step: int | None = None
) -> tuple[dict[str, Tensor], str]:
    """The power average of a length: as the checkpoint stored it, as `sfumato ema` made it, or made now.

    Args:
        run: the run folder.
        length: sigma_rel, above 0 to 0.3.
        checkpoint: which is stored.
        step: of the average; None: the checkpoint's.

    Returns:
        The tensors, and where they are from: "stored", "made" (a file), or "made now".

    Raises:
        ValueError: for a length out of range, or one that can't be made of what the run holds.
    """
    Power(length)
    step = checkpoint.step if step is None else step
    if step == checkpoint.step and (checkpoint.folder / f"{name_of(length)}.safetensors").is_file():
        return checkpoint.tensors(name_of(length)), "stored"
    for path in (file_of(run / "averages", length), file_of(run / "averages", length, step)):
        if path.is_file() and (note := _note(path)) and (note["length"], note["step"]) == (length, step):
            return load_file(path), "made"
    kept = kept_by(run, checkpoint, step)
    try:
        found = kept.fit(length, step)
    except ValueError as error:
        raise ValueError(
            f"ema is {length}, which can't be made: {error}. {_there(run, checkpoint, kept.stored)}"
        ) from error
    return reconstruct(found, kept.until(step)), "made now"


def _note(path: Path) -> Mapping[str, Any] | None:
    """What is written beside a made average, or None with a warning where it is not of this file."""
    try:
        note = json.loads(path.with_suffix(".json").read_text())
        if note["format"] != FORMAT:
            raise ValueError(f"it has format {note['format']}, this version reads format {FORMAT}")
        if path.stat().st_size != note["bytes"] or file_hash(path) != note["sha256"]:
            raise ValueError("it is not the file that was made")
        return {"length": float(note["length"]), "step": int(note["step"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path} is passed over: {error}; make it again with `sfumato ema`", stacklevel=4)
    return None


def _there(run: Path, checkpoint: Checkpoint, stored: Sequence[Stored]) -> str:
    """What there is instead, and how more is made."""
    lengths = ", ".join(f"{length:g}" for length in sorted({one.length for one in stored}))
    made = ", ".join(sorted(p.stem for p in (run / "averages").glob("length-*.safetensors")))
    return (
        f"Stored in {run}: lengths {lengths or 'none'} (checkpoint {checkpoint.step}); made: {made or 'none'}; others are made by: "
        f"sfumato ema {run} --length L"
    )

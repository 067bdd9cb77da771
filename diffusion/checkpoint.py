"""Checkpoints: safetensors and JSON, published whole, verified when read. What a run needs to go on, and nothing that is drawn."""

from __future__ import annotations

import errno
import json
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .migrate import migrate
from .publish import discard, publish, verify
from .shards import groups, is_shard, is_split, read_shards, read_split

__all__ = ["FORMAT", "Checkpoint", "at_step", "newest", "save", "valid"]

FORMAT = 2
_PREFIX = "step-"
# what a checkpoint can't do without
_NEEDED = {"state.json", "model.safetensors"}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk whose hashes have been verified.

    folder: where it is. step: optimizer steps done. state: what was saved beside the tensors, as of this version's format.
    names: of the groups of tensors that it holds.
    """

    folder: Path
    step: int
    state: dict[str, Any]
    names: tuple[str, ...] = ()

    def tensors(self, name: str, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """The tensors saved under a name: "model", "ema", "optimizer", and where there are, "head", "head_optimizer", "density".

        Args:
            name: of the group.
            like: tensors that are split over processes, by name; what is saved of them is split likewise. None: whole tensors.

        Raises:
            ValueError: when it holds none of that name.
        """
        if name not in self.names:
            raise ValueError(f"the checkpoint {self.folder} holds no {name!r}; it has {', '.join(self.names)}")
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            return read_shards(self.folder, name, like or {})
        return read_split(path, like) if like is not None and is_split(like) else load_file(path)


def own_version() -> str:
    """Sfumato's version, as installed."""
    try:
        return version("sfumato")
    except PackageNotFoundError:
        return "unknown"


def save(
    root: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int,
    more: Callable[[Path], None] | None = None,
) -> Path:  # fmt: skip
    """Publish a checkpoint under root, then remove the oldest beyond `keep`.

    A process that is killed at any moment leaves the earlier checkpoints as they were: this one appears whole, by a rename.

    Args:
        root: the folder of checkpoints.
        step: optimizer steps done; names the folder.
        tensors: name -> tensors on the host, each name one file; those that share memory are written twice.
        state: JSON-able.
        keep: how many to keep, >= 1.
        more: writes further files into the folder, which are hashed with the rest.

    Raises:
        OSError: when it can't be written; the earlier ones are as they were.
    """

    def write(folder: Path) -> None:
        for name, values in tensors.items():
            _write(values, folder / f"{name}.safetensors")
        (folder / "state.json").write_text(json.dumps(dict(state), indent=1))
        if more is not None:
            more(folder)

    needed = sum(v.numel() * v.element_size() for values in tensors.values() for v in values.values())
    facts = {"format": FORMAT, "written_by": f"sfumato {own_version()}", "step": step}
    final = publish(root, f"{_PREFIX}{step:09d}", write, facts, needed)
    _retire(root, final, keep)
    return final


def _write(values: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file(_apart(values), path)
    except SafetensorError as error:  # it wraps what the system said
        number = re.search(r"os error (\d+)", str(error))
        raise OSError(int(number[1]) if number else errno.EIO, str(error), str(path)) from error


def _apart(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory, as safetensors wants them (tied weights do)."""
    seen: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, value in values.items():
        place = value.untyped_storage().data_ptr()
        value = value.detach().to("cpu")
        whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.numel() * value.element_size()
        apart[name] = value if whole and place not in seen else value.clone().contiguous()
        seen.add(place)
    return apart


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
            discard(folder)


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
    """A checkpoint whose files are those of its manifest, and whose format this version reads.

    Raises:
        ValueError: saying what is wrong with it.
    """
    manifest = verify(folder)
    try:
        if folder.name != f"{_PREFIX}{manifest['step']:09d}":
            raise ValueError(f"its manifest is that of step {manifest['step']}")
        missing = _NEEDED - set(manifest["files"])
        if missing:
            raise ValueError(f"its manifest lacks {', '.join(sorted(missing))}")
        state = json.loads((folder / "state.json").read_text())
        state = migrate(state, manifest["format"], FORMAT, manifest.get("written_by", "an unknown version"))
        plain = {Path(n).stem for n in manifest["files"] if n.endswith(".safetensors") and not is_shard(n)}
        names = sorted(plain | set(groups(folder) if any(map(is_shard, manifest["files"])) else ()))
        return Checkpoint(folder, int(manifest["step"]), state, tuple(names))
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def valid(root: Path) -> list[Checkpoint]:
    """The valid checkpoints under root, newest first; warns of each one that is not, and why."""
    found: list[Checkpoint] = []
    for folder in _folders(root):
        try:
            found.append(_verified(folder))
        except ValueError as error:
            warnings.warn(f"checkpoint {folder} is skipped: {error}", stacklevel=2)
    return found


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

"""Folders that appear whole or not at all: staged beside their place, hashed, forced to the disk, and published by one rename."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .whole_file import file_hash, sync

__all__ = ["discard", "publish", "room", "verify"]

MANIFEST = "manifest.json"
_STAGE, _TRASH = ".stage-", ".trash-"
_MARGIN = 2**20


def publish(
    root: Path,
    name: str,
    write: Callable[[Path], None],
    facts: Mapping[str, Any],
    needed: int = 0,
    replace: bool = False,
) -> Path:
    """Make the folder root/name; a process that is killed at any moment leaves what was there before, or the whole folder.

    Args:
        root: made where it is missing; what earlier, killed processes left there is swept.
        name: of the folder. One that is there and not valid is replaced; one that is valid stays as it is.
        write: fills a folder with files.
        facts: JSON-able; go into manifest.json beside sizes and hashes of the files.
        needed: bytes that it will take, so that a full disk is found before it is written to.
        replace: whether a valid one that holds something else is replaced too; between two renames there is then none.

    Raises:
        OSError: when it can't be written: with the path, and for a full disk what is needed and what is free.
    """
    root.mkdir(parents=True, exist_ok=True)
    sweep(root)
    stage, final = root / f"{_STAGE}{uuid.uuid4().hex}", root / name
    try:
        room(root, needed)
        stage.mkdir()
        write(stage)
        files = sorted(stage.iterdir())
        mode = stage.stat().st_mode & 0o666
        for path in files:  # safetensors makes what it writes the owner's alone
            path.chmod(mode)
        listed = {path.name: {"sha256": file_hash(path), "bytes": path.stat().st_size} for path in files}
        manifest = json.dumps({**facts, "files": listed}, indent=1)
        (stage / MANIFEST).write_text(manifest)
        for path in (*files, stage / MANIFEST, stage):
            sync(path)
        if final.exists() and _is_whole(final) and (not replace or (final / MANIFEST).read_text() == manifest):
            discard(stage)
            return final
        if final.exists():
            discard(final)
        os.replace(stage, final)
        sync(root)
    except BaseException as error:
        shutil.rmtree(stage, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(root, needed) from error
        raise
    return final


def room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: that will be written to.
        needed: bytes.

    Raises:
        OSError: ENOSPC, with the path, the bytes needed and those free.
    """
    if needed and shutil.disk_usage(folder).free < needed + _MARGIN:
        raise _full(folder, needed)


def _full(folder: Path, needed: int) -> OSError:
    free = shutil.disk_usage(folder).free
    wants = f"{needed / 2**20:.1f} MiB are needed" if needed else "there is no room"
    return OSError(
        errno.ENOSPC,
        f"the disk is full: {wants} and {free / 2**20:.1f} MiB are free; what was there before is as it was. Make room, or move the run",
        str(folder),
    )


def verify(folder: Path) -> dict[str, Any]:
    """The manifest of a folder whose files are those that were published.

    Raises:
        ValueError: saying what is wrong.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        for name, known in manifest["files"].items():
            path = folder / name
            if path.parent != folder or path.is_symlink():
                raise ValueError(f"{name} is not the file that was saved")
            if not path.exists():
                raise ValueError(f"{name} is missing")
            if path.stat().st_size != known["bytes"] or file_hash(path) != known["sha256"]:
                raise ValueError(f"{name} is not the file that was saved")
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return manifest


def discard(folder: Path) -> None:
    """Remove a folder: it stops being one of the published at once, by a rename, and then goes file by file."""
    trash = folder.with_name(f"{_TRASH}{uuid.uuid4().hex}")
    try:
        os.replace(folder, trash)
    except OSError:  # gone, or not ours to move: what can't be removed is no reason to end a run
        return
    shutil.rmtree(trash, ignore_errors=True)


def sweep(root: Path) -> None:
    """Remove what killed processes left half-made or half-removed."""
    for pattern in (f"{_STAGE}*", f"{_TRASH}*"):
        for left in root.glob(pattern):
            shutil.rmtree(left, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    try:
        verify(folder)
    except ValueError:
        return False
    return True

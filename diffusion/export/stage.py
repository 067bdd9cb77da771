"""A folder that is filled out of sight and gets its name by a rename; what killed processes left half-made is swept."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..lock import RunLock
from ..publish import room
from ..whole_file import PART, sync

__all__ = ["check_free", "staged"]


def check_free(folder: Path) -> None:
    """Refuse a place where there is something.

    Raises:
        ValueError: saying what to do.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"out is {str(folder)!r}, which is there and not an empty folder; give another, or move it away"
        )


@contextmanager
def staged(folder: Path, needed: int) -> Iterator[Path]:
    """Where to write the files of a folder, which appears whole or not at all, forced to the disk.

    Args:
        folder: to make; it may be there if it is empty.
        needed: bytes that it will take.

    Raises:
        OSError: for a disk that is full.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    room(folder.parent, needed)
    stage, lock = folder.parent / f".{folder.name}-{uuid.uuid4().hex}{PART}", None
    try:
        stage.mkdir()
        lock = RunLock(stage)  # let go by the system when this process dies, which tells a leftover from a neighbour
        yield stage
        lock.release()
        for own in stage.glob(".*"):
            own.unlink()
        for path in (*stage.rglob("*"), stage):
            if path.is_file():
                path.chmod(stage.stat().st_mode & 0o666)  # safetensors makes what it writes the owner's alone
            sync(path)
        if folder.is_dir():
            folder.rmdir()
        stage.rename(folder)
        sync(folder.parent)
    except BaseException:
        if lock is not None:
            lock.release()
        shutil.rmtree(stage, ignore_errors=True)
        raise


def _sweep(folder: Path) -> None:
    """Remove what killed processes left of this folder, but not what another process writes now."""
    left = re.compile(rf"\.{re.escape(folder.name)}-[0-9a-f]{{32}}{re.escape(PART)}")
    for path in folder.parent.iterdir():
        if not left.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        try:
            RunLock(path).release()
        except (ValueError, OSError):
            continue
        shutil.rmtree(path, ignore_errors=True)

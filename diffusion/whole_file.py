"""Files that appear whole or not at all, what is forced to the disk, and hashes that tell whether a file is the one that was written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PART", "file_hash", "replace_text", "sync", "whole_file"]

PART = ".part"
"""How the name of a file ends that is not whole yet."""


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Where to write a file; it gets its name by a rename, when all of it is written, and is removed when that fails.

    Args:
        path: of the file.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}{PART}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, forced to the disk."""
    with whole_file(path) as temporary:
        temporary.write_text(text)
        sync(temporary)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Folders that are not written over."""

from __future__ import annotations

from pathlib import Path

__all__ = ["free_folder"]


def free_folder(folder: Path, mark: str) -> Path:
    """The folder, or the first of FOLDER-2, FOLDER-3, ... that does not hold a file named `mark`."""
    found, n = folder, 1
    while (found / mark).exists():
        n += 1
        found = folder.with_name(f"{folder.name}-{n}")
    return found

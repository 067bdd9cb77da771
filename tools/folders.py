"""Folders that are not written over."""

from __future__ import annotations

from pathlib import Path

__all__ = ["free_file", "free_folder", "last_folder", "ready_folder"]


def free_file(file: Path) -> Path:
    """The file, or the first of NAME-2, NAME-3, ... that is not there yet."""
    found, n = file, 1
    while found.exists():
        n += 1
        found = file.with_name(f"{file.stem}-{n}{file.suffix}")
    return found


def ready_folder(folder: Path, name: str) -> list[Path]:
    """Make a folder before the work rather than after it; returns what was not there, the deepest first.

    Args:
        folder: where to.
        name: of the option, for the message.

    Raises:
        ValueError: for one that can't be made.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"{name} is {str(folder)!r}, which can't be made: {error.strerror or error}; give another folder"
        ) from error
    return made


def free_folder(folder: Path, *marks: str) -> Path:
    """The folder, or the first of FOLDER-2, FOLDER-3, ... that does not hold a file that a mark names, such as "seed-*.png"."""
    return _numbered(folder, marks)[-1]


def last_folder(folder: Path, *marks: str) -> Path:
    """The last of FOLDER, FOLDER-2, ... that holds a file that a mark names, or the folder where none does."""
    return [folder, *_numbered(folder, marks)[:-1]][-1]


def _numbered(folder: Path, marks: tuple[str, ...]) -> list[Path]:
    """The folders up to the first that is free."""
    found = [folder]
    while any(True for mark in marks for _ in found[-1].glob(mark)):
        found.append(folder.with_name(f"{folder.name}-{len(found) + 1}"))
    return found

"""Which images lie below a folder, links included."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

__all__ = ["SUFFIXES", "Links", "image_files"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
Links = Literal["inside", "anywhere"]


def image_files(root: Path, links: Links = "inside") -> list[str]:
    """The images below a folder, sorted by folder and name.

    Args:
        root: the folder.
        links: "inside": links to what lies in the folder are followed, those that lead out of it are refused; "anywhere": all are followed.

    Returns:
        Paths from the folder, with "/".

    Raises:
        ValueError: naming it, for a link that leads out of the folder, nowhere, or to a folder that it lies in, and a folder that can't be
            listed.
    """
    top = os.path.realpath(root)
    found: list[str] = []
    waiting: list[tuple[str, tuple[str, ...]]] = [
        ("", (top,))
    ]  # what a folder is called, and the real paths down to it
    while waiting:
        prefix, above = waiting.pop()
        try:
            with os.scandir(root / prefix) as listing:
                entries = list(listing)
        except OSError as error:
            raise ValueError(f"the folder {root / prefix} can't be listed: {error.strerror}") from error
        for entry in entries:
            name = prefix + entry.name
            wanted = os.path.splitext(entry.name)[1].lower() in SUFFIXES
            if entry.is_symlink():
                _check_link(root / name, top, wanted, links)
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
                if real in above:
                    raise ValueError(f"the link {root / name} leads to {real}, in which it lies itself; remove it")
                waiting.append((f"{name}/", (*above, real)))
            elif wanted and entry.is_file():
                found.append(name)
    return sorted(found, key=lambda name: name.split("/"))


def _check_link(link: Path, top: str, wanted: bool, links: Links) -> None:
    target = os.path.realpath(link)
    if not os.path.exists(target):
        raise ValueError(f"the link {link} leads nowhere ({target}); mend or remove it")
    outside = target != top and not target.startswith(os.path.join(top, ""))
    if links == "inside" and outside and (wanted or os.path.isdir(target)):
        raise ValueError(
            f"the link {link} leads out of the folder, to {target}; copy what it leads to, or allow it with links 'anywhere'"
        )

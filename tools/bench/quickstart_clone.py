"""The way from a clone to the first picture: `make quickstart` of a clean copy of this checkout, installation included."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from .sheet import Cell, Sheet
from .startup_child import environment

__all__ = ["ROOT", "copy_checkout", "first_picture"]

ROOT = Path(__file__).parents[2]
_LEFT_OUT = (".git", ".venv", "runs", "build", "dist", "__pycache__", "*.egg-info")
_PAUSE = 0.1


def copy_checkout(root: Path, to: Path) -> None:
    """Copy what a clone would have; what was built or made here stays here."""
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(*_LEFT_OUT))


def first_picture(folder: Path, sheet: Sheet) -> None:
    """Add the row: seconds on the wall until everything is installed, until the picture lies there, and until the end.

    Args:
        folder: where the copy is made.
        sheet: of the bench; says why where this is no checkout, or `make` is missing.

    Raises:
        RuntimeError: with the end of what it said, where `make quickstart` fails.
    """
    if not (ROOT / "Makefile").is_file() or shutil.which("make") is None:
        sheet.lacks("first-picture", "it needs a checkout, with its Makefile, and make")
        return
    clone = folder / "clone"
    copy_checkout(ROOT, clone)
    marks = {"installed": clone / ".venv" / ".installed", "the picture": clone / "runs" / "quickstart" / "samples.png"}
    seen: dict[str, float] = {}
    outside = {name: value for name, value in environment().items() if name != "VIRTUAL_ENV"}
    before, began = os.times(), time.perf_counter()
    with (folder / "said").open("w+b") as said:
        child = subprocess.Popen(["make", "quickstart"], cwd=clone, stdout=said, stderr=said, env=outside)
        while child.poll() is None:
            time.sleep(_PAUSE)
            for name, file in marks.items():
                if name not in seen and file.exists():
                    seen[name] = time.perf_counter() - began
        seen["all"] = time.perf_counter() - began
        said.seek(0)
        if child.returncode:
            raise RuntimeError(f"make quickstart failed: {said.read().decode(errors='replace')[-2000:]}")
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    cells = {name: Cell(seconds, unit="s") for name, seconds in seen.items()}
    sheet.add("from a clone to the first picture", {**cells, "CPU of all": Cell(cpu, unit="s")})
    sheet.note(
        "installation included, from the package index and with the cache that pip is told of on this machine; the clone itself is not"
    )

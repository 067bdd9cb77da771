"""Where a comparison lies: its finished cells, and its report."""

from __future__ import annotations

import json
import re
from pathlib import Path

from .axes import Axis
from .report import FILES

__all__ = ["home_of", "place_for"]


def home_of(run: str) -> Path:
    """The folder of all comparisons of a model: within a run, and of somebody else's model here, since that is not written into.

    Args:
        run: as on the command line.
    """
    path = Path(run)
    return path / "compare" if (path / "config.yaml").is_file() else Path("compare") / (path.stem or "model")


def place_for(home: Path, out: str | None, x: Axis, y: Axis, identity: str) -> Path:
    """The folder of a report: the one that it had before, or a new one beside those of other comparisons.

    Args:
        home: of the model.
        out: given instead.
        x, y: columns and rows.
        identity: of the comparison.

    Raises:
        ValueError: for a file, or a folder that holds another comparison.
    """
    if out is not None:
        folder = Path(out)
        if folder.is_file():
            raise ValueError(f"out is {out!r}, which is a file; choose another folder")
        if _holds(folder) not in (None, identity):
            raise ValueError(f"out is {out!r}, which holds another comparison; choose another folder")
        return folder
    name = "-".join(re.sub(r"[^\w.]+", "-", axis.name) for axis in (x, y) if axis.keys).lower()
    found, n = home / name, 1
    while _holds(found) not in (None, identity):
        n += 1
        found = home / f"{name}-{n}"
    return found


def _holds(folder: Path) -> str | None:
    """Which comparison lies in a folder; "" for one that can't be read."""
    path = folder / FILES[3]
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        return str(found["id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""

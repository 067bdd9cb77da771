"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PART", "whole_file"]

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

"""diffusers scheduler configs as our parts: which path a model was trained on, and what its output means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .rows import Row
from .schedule import Schedule

__all__ = ["Process", "read_process"]


class Process(NamedTuple):
    """A forward process: schedule, the path; row, what a network's output means on it."""

    schedule: Schedule
    row: Row


def read_process(source: Mapping[str, Any] | str | Path | object, tokens: int | None) -> Process:
    """See Table.from_diffusers."""
    raise ValueError("not there yet")

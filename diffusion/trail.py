"""What the steps since a checkpoint came to, exactly, so that a replay of them can be compared."""

from __future__ import annotations

from typing import Any

from .update import Updated

__all__ = ["Trail"]

_FIRST = 100


class Trail:
    """Loss and gradient norm of the first hundred steps since a checkpoint, to the last bit."""

    def __init__(self) -> None:
        self._steps: list[list[Any]] = []

    def add(self, step: int, made: Updated) -> None:
        """Note a step; beyond the first hundred nothing happens."""
        if len(self._steps) < _FIRST:
            self._steps.append([step, float(made.loss).hex(), float(made.norm).hex()])

    def kept(self) -> list[list[Any]]:
        """[step, loss, norm] of each, numbers as Python's hexadecimal floats."""
        return [list(step) for step in self._steps]

"""Being told to stop: at the end of a step, not in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interrupted", "signals"]


class Interrupted(Exception):
    """Training was told to stop, saved a checkpoint and stopped; `resume` goes on from there.

    Args:
        message: at which step.
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


@contextmanager
def signals() -> Iterator[list[int]]:
    """SIGINT and SIGTERM leave their number in the list instead of stopping a step half-way; a second one stops at once."""
    noted: list[int] = []

    def note(number: int, frame: Any) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    try:
        old = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the caller's signals stay his
        yield noted
        return
    try:
        yield noted
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)

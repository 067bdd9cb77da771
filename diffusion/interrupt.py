"""Being told to save, or to stop: at the end of a step, not in the middle of one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Interrupted", "Told", "signals"]


class Interrupted(Exception):
    """Training was told to stop, saved a checkpoint and stopped; `resume` goes on from there.

    Args:
        message: at which step.
        number: of the signal.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


@dataclass
class Told:
    """What signals have asked for. stop: the number of the signal that asked to stop, or 0. save: whether to save and go on."""

    stop: int = 0
    save: bool = False
    seen: set[int] = field(default_factory=set)


@contextmanager
def signals() -> Iterator[Told]:
    """SIGINT and SIGTERM ask to stop, SIGUSR1 to save, and none of them stops a step half-way.

    The same stop signal a second time ends the process at once. A SIGTERM after a SIGINT does not: a launcher that was interrupted
    from the keyboard sends one to processes that the keyboard has reached already.
    """
    told = Told()

    def stop(number: int, frame: Any) -> None:
        if number in told.seen:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        told.seen.add(number)
        told.stop = told.stop or number

    def save(number: int, frame: Any) -> None:
        told.save = True

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop}
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = save
    try:
        old = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    except ValueError:  # not in the main thread: the caller's signals stay his
        yield told
        return
    try:
        yield told
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not set from Python

"""Being told to stop, by Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Stopped", "stopping"]


class Stopped(BaseException):
    """The process was told to stop. Like KeyboardInterrupt it is no Exception, so that nothing takes it for a failure.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number

    @property
    def code(self) -> int:
        """What the process ends with: 0 when it was asked to end, as by a cluster that will start it again; 130 by Ctrl-C."""
        return 0 if self.number == signal.SIGTERM else 130


@contextmanager
def stopping() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise Stopped; the same one a second time ends the process at once.

    The other one after it does not: from the keyboard SIGINT reaches a launcher and its processes, and the launcher sends them SIGTERM too.

    Raises:
        Stopped: when told to.
    """

    def stop(number: int, frame: Any) -> None:
        for each in old:
            signal.signal(each, signal.SIG_DFL if each == number else signal.SIG_IGN)
        raise Stopped(number)

    old: dict[int, Any] = {}
    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            old[each] = signal.signal(each, stop)
    except ValueError:  # not in the main thread: the caller's signals stay his
        yield
        return
    try:
        yield
    finally:
        for each, handler in old.items():
            signal.signal(each, handler)

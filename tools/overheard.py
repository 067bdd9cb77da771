"""Warnings of one thread, heard while other threads warn of their own things."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["listen", "overheard"]


class _Hook(threading.local):
    """Stands in for `warnings.showwarning`: hands a warning to the listener of the thread that gave it, else on.

    Args:
        before: what showed warnings until now.
    """

    def __init__(self, before: Callable[..., Any]) -> None:
        self.before = before
        self.say: Callable[[Warning], object] | None = None

    def __call__(self, message: Any, category: type[Warning], *rest: Any) -> None:
        if self.say is None or not issubclass(category, UserWarning | RuntimeWarning):
            self.before(message, category, *rest)
        else:
            self.say(message if isinstance(message, Warning) else category(message))


def listen() -> None:
    """Let threads be told apart from here on; a program with threads calls it before it starts them.

    Python has one place for all threads where warnings are shown, and `warnings.catch_warnings` puts back what was there when it began:
    two threads that come and go in turn would take the place from each other. So it is taken once and never given back, except by a
    `catch_warnings` that was there before; for whoever does not listen nothing changes, but that a UserWarning is not only shown once
    per line of code, since the second visitor wants to hear it too. Filters that were there before hold.
    """
    if not isinstance(warnings.showwarning, _Hook):
        warnings.showwarning = _Hook(warnings.showwarning)
    warnings.simplefilter("always", UserWarning, append=True)


@contextmanager
def overheard(say: Callable[[Warning], object]) -> Iterator[None]:
    """Within, what this thread warns of is said to a function instead of shown; another thread's is not.

    A thread that is started within is another one. While any thread is in `warnings.catch_warnings(record=True)`, all that is warned of
    goes there, which is why nothing that runs in a server's thread may use that.

    Args:
        say: told of each UserWarning and RuntimeWarning, in this thread.
    """
    listen()
    hook = warnings.showwarning
    assert isinstance(hook, _Hook)
    before, hook.say = hook.say, say
    try:
        yield
    finally:
        hook.say = before

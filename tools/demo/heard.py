"""What work warned of, for the visitor who asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..overheard import overheard
from .told import readable

__all__ = ["heard"]


@contextmanager
def heard() -> Iterator[list[str]]:
    """Within, what this thread warns of is collected, each sentence once and without paths, instead of shown in the server's log.

    It belongs into the function that does the work, which `going_on` runs in a thread of its own:

        def work(say):
            with heard() as notes:
                return model.sample(**arguments, watch=say), notes
    """
    notes: list[str] = []

    def note(warning: Warning) -> None:
        words = readable(warning)
        if words not in notes:
            notes.append(words)

    with overheard(note):
        yield notes

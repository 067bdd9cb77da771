"""Work that goes on while a page is kept up to date, and that stops when it is told to, or when nobody looks any more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

__all__ = ["Done", "Halt", "Halted", "Running", "going_on"]

T = TypeVar("T")
R = TypeVar("R")


class Halted(Exception):
    """Someone pressed Stop, or went away."""


class Halt:
    """A flag that is raised once, from any thread, and looked at in every step.

    Args:
        turn: held by the one piece of work that computes; None: it may go on beside others.
    """

    def __init__(self, turn: threading.Lock | None = None) -> None:
        self._flag = threading.Event()
        self._turn = turn

    def stop(self) -> None:
        """Raise it."""
        self._flag.set()

    @property
    def stopped(self) -> bool:
        """Whether it is raised."""
        return self._flag.is_set()

    def check(self) -> None:
        """Leave the work, where the flag is raised.

        Raises:
            Halted: there.
        """
        if self._flag.is_set():
            raise Halted

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until work that was stopped before has made its last step, and go on alone.

        Raises:
            Halted: where the flag is raised before that.
        """
        if self._turn is None:
            self.check()
            yield
            return
        while not self._turn.acquire(timeout=0.05):
            self.check()
        try:
            self.check()
            yield
        finally:
            self._turn.release()


class Running:
    """Who is at work: one piece of work per session and kind, so that Stop reaches the right one; of all of them one computes."""

    def __init__(self) -> None:
        self._halts: dict[tuple[str, str], Halt] = {}
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._kept: list[threading.Thread] = []

    def begin(self, session: str, kind: str) -> Halt:
        """A flag for new work; older work of that session and kind is told to stop."""
        halt = Halt(self._turn)
        with self._lock:
            before = self._halts.pop((session, kind), None)
            self._halts[session, kind] = halt
        if before is not None:
            before.stop()
        return halt

    def stop(self, session: str, kind: str | None = None) -> int:
        """Tell work to stop; returns how many pieces there were. None: all that the session has."""
        with self._lock:
            found = [self._halts.pop(key) for key in list(self._halts) if key[0] == session and kind in (None, key[1])]
        for halt in found:
            halt.stop()
        return len(found)

    def keep(self, thread: threading.Thread) -> None:
        """Remember a thread that the server's end waits for: one that has something to save when it is told to stop."""
        self._kept.append(thread)

    def stop_all(self, patience: float = 20.0) -> None:
        """Tell all work to stop, of everybody, since the server ends, and wait for what has something to save.

        Args:
            patience: seconds, at most.
        """
        for session in {session for session, _ in list(self._halts)}:
            self.stop(session)
        end = time.monotonic() + patience
        for thread in self._kept:
            thread.join(max(0.0, end - time.monotonic()))

    def end(self, session: str, kind: str, halt: Halt) -> None:
        """Work has ended by itself."""
        with self._lock:
            if self._halts.get((session, kind)) is halt:
                del self._halts[session, kind]

    @property
    def count(self) -> int:
        """Pieces of work that go on."""
        return len(self._halts)


class Done(Generic[R]):
    """What work came to, the last thing that it says.

    result: of the work. stopped: whether it was stopped before its end; then there is no result.
    """

    def __init__(self, result: R | None, stopped: bool) -> None:
        self.result, self.stopped = result, stopped


def going_on(work: Callable[[Callable[[T], None]], R], halt: Halt, pause: float = 0.1) -> Iterator[T | Done[R]]:
    """Do work in a thread of its own, and hand out the latest thing that it said from time to time, then what it came to.

    What was said in between and is no longer the latest is left out: a page that can't keep up does not slow the work down. Closing the
    iterator stops the work and does not wait for it, since Gradio closes what nobody looks at any more on the very loop that serves all
    the others; the next work waits instead, until the step that was begun is over.

    Args:
        work: given a function to say things with, which ends the work by Halted once the flag is raised.
        halt: the flag; raised already, nothing is begun.
        pause: seconds between two things that are handed out.

    Raises:
        Exception: what the work raised.
    """
    said: list[T] = []
    error: list[BaseException] = []
    result: list[R] = []
    news, ended = threading.Condition(), threading.Event()

    def say(thing: T) -> None:
        halt.check()
        with news:
            said[:] = [thing]
            news.notify()

    def run() -> None:
        try:
            with halt.turn():
                result.append(work(say))
        except BaseException as problem:  # handed on to whoever waits
            error.append(problem)
        finally:
            with news:
                ended.set()
                news.notify()

    threading.Thread(target=run, daemon=True).start()
    try:
        while True:
            with news:
                news.wait_for(lambda: bool(said) or ended.is_set())
                latest = [] if ended.is_set() else [said.pop()]
            if not latest:
                break
            yield latest[0]
            ended.wait(pause)
    finally:
        halt.stop()
    if error and not isinstance(error[0], Halted):
        raise error[0]
    yield Done(result[0] if result else None, bool(error))

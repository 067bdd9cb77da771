"""Work that processes share: who does what, and that all of them learn what happened to one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from .launch import Processes

__all__ = ["InTurns"]

_FINE, _STOPPED, _FAILED = 0.0, 1.0, 2.0


class InTurns:
    """Processes that take turns at the pieces of a job, or one process alone.

    Args:
        processes: those of this job; None: this one alone.

    Attributes: count, rank; main: whether this process is the one that speaks.
    """

    def __init__(self, processes: Processes | None) -> None:
        alone = processes is None or processes.count == 1
        self._processes = None if alone else processes
        self.count, self.rank = (1, 0) if processes is None else (processes.count, processes.rank)
        self.main = processes is None or processes.main

    def mine(self, pieces: int) -> Iterator[int | None]:
        """The pieces of this process, of so many; None: the others still have one. All processes have as many turns.

        Args:
            pieces: of the job.
        """
        for first in range(0, pieces, self.count):
            piece = first + self.rank
            yield piece if piece < pieces else None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what may fail in one process: none goes on before all have come to its end, and what one raises ends all.

        Raises:
            BaseException: what was raised within, in the process where it was.
            ValueError: in the others, when one failed.
            InterruptedError: in the others, when one was told to stop.
            ConnectionError: when one is gone.
        """
        if self._processes is None:
            yield
            return
        found: BaseException | None = None
        try:
            yield
        except BaseException as error:  # what stops this process is told to the others too, or they would wait for it
            found = error
        how = _FINE if found is None else _FAILED if isinstance(found, Exception) else _STOPPED
        try:
            worst = self._processes.largest(torch.tensor(how, device=self._processes.device))
        except RuntimeError as error:
            if found is not None:
                raise found from None
            raise ConnectionError("another process has ended before its time") from error
        if found is not None:
            raise found
        if worst == _FAILED:
            raise ValueError("another process has failed; its message says why")
        if worst == _STOPPED:
            raise InterruptedError("another process was told to stop")

    def total(self, numbers: Sequence[int]) -> list[int]:
        """The sums over processes."""
        if self._processes is None:
            return list(numbers)
        return self._processes.total(torch.tensor(numbers, dtype=torch.int64, device=self._processes.device)).tolist()

    def listed(self, numbers: Sequence[int], most: int) -> list[int]:
        """Numbers of all processes, at most so many of each, sorted.

        Args:
            numbers: those of this process, >= 0.
            most: of them that are told.
        """
        own = sorted(numbers)[:most]
        if self._processes is None:
            return own
        told = torch.tensor([*own, *[-1] * (most - len(own))], dtype=torch.int64, device=self._processes.device)
        return sorted(n for n in self._processes.gather(told).tolist() if n >= 0)

    def same(self, what: str, text: str) -> None:
        """Refuse processes that were started with different settings, see `Processes.same`."""
        if self._processes is not None:
            self._processes.same(what, text)

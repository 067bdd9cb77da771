"""Where a server keeps the cells that visitors had made: as the command does, and no more than a few hundred megabytes of them."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from ..compare.store import Store, Stored

__all__ = ["Kept"]


class Kept(Store):
    """A store whose own cells are bounded: beyond the bound those that it wrote first are removed again.

    On a disk it counts only what it wrote itself: cells of the command, or of an earlier server, are read, and never removed, since they
    are somebody's work. Where nothing can be written, cells are kept in memory, within the same bound.

    Args:
        folder: as of the command; None: memory.
        most: bytes.
    """

    def __init__(self, folder: Path | None, most: int = 256 * 2**20) -> None:
        super().__init__(folder)
        self._most, self._written = most, dict[str, int]()
        self._lock = threading.Lock()

    def put(self, key: str, stored: Stored) -> None:
        """Keep it."""
        with self._lock:
            try:
                super().put(key, stored)
            except OSError:  # a disk that is full, or is not ours to write on
                self._known[key] = stored
            path = self._path(key)
            size = path.stat().st_size if path is not None else sum(a.nbytes for a in stored.arrays.values())
            self._written.pop(key, None)
            self._written[key] = size
            while len(self._written) > 1 and sum(self._written.values()) > self._most:
                self._remove(next(iter(self._written)))

    def _remove(self, key: str) -> None:
        path = self._path(key)
        del self._written[key]
        self._known.pop(key, None)
        if path is not None:
            with suppress(OSError):
                path.unlink()

    @property
    def size(self) -> int:
        """Bytes of what it wrote and did not remove."""
        return sum(self._written.values())

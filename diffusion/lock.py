"""One trainer per run folder."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .whole_file import whole_file

__all__ = ["RunLock"]

_LOCK, _OWNER = ".lock", ".owner.json"
# how long the children of a killed process may take to notice and let go
_PATIENCE = 15.0


class RunLock:
    """The right to write a run folder, held until `release`, and let go by the system when the process dies, however it dies.

    Args:
        folder: of the run; it must exist.

    Raises:
        ValueError: when another process holds it, naming that process and its host.
        PermissionError: when the lock is somebody else's.
    """

    def __init__(self, folder: Path) -> None:
        self._owner = folder / _OWNER
        self._lock = FileLock(folder / _LOCK)
        began = time.monotonic()
        while True:
            try:
                self._lock.acquire(timeout=0)
                break
            except Timeout:
                owner = self._read()
                if _alive(owner) or time.monotonic() - began > _PATIENCE:
                    raise ValueError(
                        f"{folder} is being written by {_words(owner)}; wait until it has ended, or choose another folder"
                    ) from None
                time.sleep(0.1)
            except PermissionError:
                raise
            except (NotImplementedError, OSError) as error:
                warnings.warn(f"{folder} can't be locked ({error}); see that no other run writes it", stacklevel=2)
                return
        with whole_file(self._owner) as file:  # half of it, after a kill, would say nothing of who is to be waited for
            file.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))

    def _read(self) -> dict[str, object]:
        with suppress(OSError, json.JSONDecodeError, UnicodeDecodeError):
            found = json.loads(self._owner.read_text())
            return found if isinstance(found, dict) else {}
        return {}

    def release(self) -> None:
        """Let others have it."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()


def _words(owner: dict[str, object]) -> str:
    return f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= owner.keys() else "another process"


def _alive(owner: dict[str, object]) -> bool:
    """Whether the process that has the lock still runs, as far as can be seen from here."""
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True  # nothing is known of it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

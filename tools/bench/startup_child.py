"""Processes of their own: the CPU time that one takes from its start to its end, and the modules that it has imported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import NamedTuple

__all__ = ["Modules", "environment", "modules", "parted", "spent"]

_COUNTED = """
import contextlib, io, sys
with contextlib.redirect_stdout(io.StringIO()):
    exec(sys.argv[1])
ours = [name for name in sys.modules if name.split(".")[0] == "sfumato"]
print(len(ours), len(sys.modules) - len(ours))
"""


_PARTED = """
import time, torch
before = time.process_time()
import {name}
print(before, time.process_time())
"""


class Modules(NamedTuple):
    """How many modules were imported: of Sfumato, and of others (Python's own among them, `-c` and what counts included)."""

    ours: int
    others: int


def environment() -> dict[str, str]:
    """This process's, for one thread; compiled modules are kept, as wherever nobody forbids it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def spent(code: str) -> float:
    """CPU seconds, of the user and the system, of a process that runs some Python, and of what it has waited for.

    Raises:
        RuntimeError: with the end of what it said, where it fails.
    """
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=said, env=environment()
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            said.seek(0)
            raise RuntimeError(f"{code!r} failed: {said.read().decode(errors='replace')[-1000:]}")
    return usage.ru_utime + usage.ru_stime


def modules(code: str) -> Modules:
    """What a process that runs some Python has imported in the end."""
    words = [sys.executable, "-c", _COUNTED, code]
    done = subprocess.run(words, env=environment(), check=True, capture_output=True, text=True)
    ours, others = done.stdout.split()
    return Modules(int(ours), int(others))


def parted(name: str) -> tuple[float, float]:
    """CPU seconds of a process that imports torch, and those when it has imported another module after it.

    What else the machine does falls on both alike, as it would not on two processes.
    """
    words = [sys.executable, "-c", _PARTED.format(name=name)]
    done = subprocess.run(words, env=environment(), check=True, capture_output=True, text=True)
    before, after = done.stdout.split()
    return float(before), float(after)

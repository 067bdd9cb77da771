"""Processes forked from the one that tests, to do harm to: no start costs them seconds."""

import functools
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from faulted import tiny

from sfumato.diffusion import train

# a disk in memory, where there is one: a kill of a process takes nothing from what it has written, synced or not
RAM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@functools.cache
def warm() -> None:
    """Import what is imported when it is first needed, once for all children."""
    with tempfile.TemporaryDirectory(dir=RAM) as folder:
        train(tiny(steps=1), folder, progress=False)


class Child:
    """A process forked from this one: no start costs it seconds.

    do: what it does, told how to say a line to its parent; what it returns is the process's exit status, and an exception is 1.
    log: where its output goes.
    """

    def __init__(self, do: Callable[[Callable[[object], None]], int | None], log: Path, **environment: str) -> None:
        warm()
        self._read, write = os.pipe()
        self._heard = b""
        self.log = log
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            os.set_blocking(self._read, False)
            return
        status = 1
        try:
            os.setpgid(0, 0)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, signal.SIG_DFL)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            os.environ.update(environment)
            torch.set_num_threads(1)
            AcceleratorState._reset_state(True)
            PartialState._reset_state()
            status = do(lambda line: os.write(write, f"{line}\n".encode())) or 0
        except SystemExit as ended:
            status = int(ended.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def said(self) -> list[str]:
        """The lines so far."""
        try:
            while self._read >= 0 and (more := os.read(self._read, 1 << 16)):
                self._heard += more
        except BlockingIOError:
            pass
        return self._heard.decode().splitlines()

    def until(self, line: str, seconds: float = 30.0) -> None:
        """Wait until it has said a line."""
        end = time.monotonic() + seconds
        while line not in self.said():
            assert time.monotonic() < end, f"never said {line!r}: {self.said()}\n{self.log.read_text()}"
            time.sleep(0.002)

    def gone(self) -> bool:
        """Whether it has ended."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def ended(self, seconds: float = 30.0) -> int:
        """Its exit status, less than 0 for the signal that ended it; whatever it started is killed."""
        end = time.monotonic() + seconds
        while True:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                break
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError(f"still ran after {seconds} s: {self.log.read_text()}")
            time.sleep(0.002)
        self.said()
        os.close(self._read)
        self._read = -1
        return os.waitstatus_to_exitcode(status)


def forked(do: Callable[[], int | None], log: Path, seconds: float = 60.0) -> int:
    """The exit status of `do` in a process of its own."""
    return Child(lambda say: do(), log).ended(seconds)


def pair(do: Callable[[int], int | None], log: Path) -> list[Child]:
    """Two processes that find each other as those of torchrun do; do: told the rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def start(rank: int) -> Child:
        return Child(
            lambda say: do(rank), log.with_name(f"{log.name}.{rank}"), RANK=str(rank), LOCAL_RANK=str(rank),
            ACCELERATE_USE_CPU="true", **common,
        )  # fmt: skip

    return [start(0), start(1)]


def ends(do: Callable[[int], int | None], log: Path, seconds: float = 30.0) -> tuple[list[int], list[str], float]:
    """How both of two processes end, what they say, and how long the slower one takes."""
    began = time.monotonic()
    two = pair(do, log)
    codes = [child.ended(seconds) for child in two]
    return codes, [child.log.read_text() for child in two], time.monotonic() - began

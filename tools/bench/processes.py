"""What a second process on a second core brings: training and sampling by two, beside one, and beside two that share nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from .goals import Goal
from .kind import Ask, Kind
from .processes_worker import DATA, GO, TOOK, Job
from .sheet import Sheet, ratio_of

__all__ = ["PROCESSES", "Group", "measured"]

_JOBS = {
    "training, UNet": Job("training", "UNet", 32, 3),
    "training, DiT": Job("training", "DiT", 32, 10),
    "sampling, UNet": Job("sampling", "UNet", 8, 20),
}
_WORKER = "sfumato.tools.bench.processes_worker"


class Group:
    """Processes that were started, and make a round each time that they are told to.

    Args:
        started: the processes, which read lines and say lines.
        logs: where each of them complains.
    """

    def __init__(self, started: Sequence[subprocess.Popen[str]], logs: Sequence[Path]) -> None:
        self._started, self._logs = started, logs

    def round(self) -> float:
        """Seconds on the clock that the slowest of them takes, as it says itself.

        Raises:
            RuntimeError: where one has ended, with its last words.
        """
        for process in self._started:
            assert process.stdin is not None
            process.stdin.write(f"{GO}\n")
            process.stdin.flush()
        return max(self._took(*one) for one in zip(self._started, self._logs, strict=True))

    def _took(self, process: subprocess.Popen[str], log: Path) -> float:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(TOOK):
                return float(line.split()[1])
        raise RuntimeError(f"a process that was measured has ended: {log.read_text()[-2000:]}")


@contextmanager
def _group(command: Sequence[str], count: int, cores: Sequence[int], together: bool, folder: Path) -> Iterator[Group]:
    """Processes, one per core.

    Args:
        command: what each runs, but for folder, count and core.
        count: of processes.
        cores: at least as many.
        together: whether they find each other, as those of torchrun do; else each is alone.
        folder: an empty one.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    usual = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONWARNINGS": "ignore"}
    common = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started: list[subprocess.Popen[str]] = []
    logs: list[Path] = []
    with ExitStack() as files:
        try:
            for rank in range(count):
                own = folder if together else folder / str(rank)
                own.mkdir(parents=True, exist_ok=True)
                np.save(own / DATA, np.random.default_rng(0).integers(0, 256, (512, 3, 32, 32), np.uint8))
                logs.append(folder / f"{rank}.log")
                ranks = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} if together and count > 1 else {}
                started.append(subprocess.Popen(
                    [*command, str(own), str(count if together else 1), str(cores[rank])], text=True, env={**usual, **ranks},
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=files.enter_context(logs[-1].open("w")),
                ))  # fmt: skip
            yield Group(started, logs)
        finally:
            for process in started:
                process.kill()
                process.communicate()


def measured(job: Job, cores: Sequence[int], repeats: int) -> dict[str, list[float]]:
    """Seconds per round of one process, of two that share their work, and of two that share nothing, in turn; each process does as
    much, and their start and one round are not counted.

    Args:
        job: what each process does.
        cores: two.
        repeats: rounds, >= 1.
    """
    command = [sys.executable, "-m", _WORKER, job.kind, job.network, str(job.each), str(job.steps)]
    how = {"one": (1, True), "two": (2, True), "two apart": (2, False)}
    taken: dict[str, list[float]] = {name: [] for name in how}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        groups = {
            name: running.enter_context(_group(command, count, cores, together, Path(folder) / name.replace(" ", "-")))
            for name, (count, together) in how.items()
        }
        for group in groups.values():  # what is waiting waits without work
            group.round()
        for _ in range(repeats):
            for name, group in groups.items():
                taken[name].append(group.round())
    return taken


def _measure(ask: Ask, sheet: Sheet) -> None:
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if len(cores) < 2:
        sheet.lacks("two processes", "this process may not run on two cores, or cannot say on which")
        return
    sheet.say(
        "pictures per second of two processes on two cores over those of one on one core, on the clock; each does as much"
    )
    for name in [ask.only] if ask.only else list(_JOBS):
        job = _JOBS[name]._replace(each=2, steps=2) if ask.quick else _JOBS[name]
        taken = measured(job, cores, 1 if ask.quick else 9)
        twice = [2 * seconds for seconds in taken["one"]]
        sheet.add(name, {
            "two": ratio_of(twice, taken["two"]), "two that share nothing": ratio_of(twice, taken["two apart"]),
            "two over those that share nothing": ratio_of(taken["two apart"], taken["two"]),
        })  # fmt: skip


_SHARED = (
    "two that share nothing reach 1.96: the exchange of gradients is not hidden behind a backward pass as short as this"
)
PROCESSES = Kind(
    _measure, tuple(_JOBS), (),
    tuple(Goal(f"two processes on two cores beside one on one, {name}", "processes", name, "two", 1.8, at_most=False, why=_SHARED)
          for name in _JOBS),
)  # fmt: skip

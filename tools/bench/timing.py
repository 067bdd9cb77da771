"""Ratios of times: interleaved, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

__all__ = ["ratios", "times"]


def _seconds(run: Callable[[], object], cuda: bool, wall: bool) -> float:
    """CPU time of this process, the clock's, or the time between two events on the device."""
    if not cuda:
        clock = time.perf_counter if wall else time.process_time
        start = clock()
        run()
        return clock() - start
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def _keep_memory() -> None:
    """Ask glibc to keep what is freed: whether it gives a megabyte back to the system, to be fetched again page by page, depends
    on where it happens to lie, and costs more than a step. Elsewhere nothing is asked."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def times(
    runs: Mapping[str, Callable[[], object]], repeats: int, cuda: bool, wall: bool = False
) -> dict[str, list[float]]:
    """Seconds of each run in every round, after one round that is not counted.

    Args:
        runs: what to time, by name; on the host, in one thread.
        repeats: rounds, >= 1; each runs all of them once, in turn.
        cuda: whether they run on a GPU.
        wall: the clock on the wall, for what waits or has processes of its own; else the CPU time of this process.
    """
    _keep_memory()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for k in range(repeats + 1):
            for name, run in runs.items():
                seconds = _seconds(run, cuda, wall)
                if k:
                    taken[name].append(seconds)
    return taken


def ratios(runs: Mapping[str, Callable[[], object]], repeats: int, cuda: bool) -> dict[str, float]:
    """The median time of each run over that of the first; arguments as those of `times`."""
    taken = times(runs, repeats, cuda)
    base = median(taken[next(iter(runs))])
    return {name: median(values) / base for name, values in taken.items()}

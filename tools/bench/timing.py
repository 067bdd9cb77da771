"""Ratios of times: interleaved, so that whatever else the machine does falls on all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

__all__ = ["ratios"]


def _seconds(run: Callable[[], object], cuda: bool) -> float:
    """CPU time of this process, or the time between two events on the device."""
    if not cuda:
        start = time.process_time()
        run()
        return time.process_time() - start
    torch.cuda.synchronize()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def ratios(runs: Mapping[str, Callable[[], object]], repeats: int, cuda: bool) -> dict[str, float]:
    """The median time of each run over that of the first, after one round that is not counted.

    Args:
        runs: what to time, by name; on the host, in one thread.
        repeats: rounds, >= 1; each runs all of them once, in turn.
        cuda: whether they run on a GPU.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with torch.no_grad():
        for k in range(repeats + 1):
            for name, run in runs.items():
                seconds = _seconds(run, cuda)
                if k:
                    taken[name].append(seconds)
    base = median(taken[next(iter(runs))])
    return {name: median(values) / base for name, values in taken.items()}

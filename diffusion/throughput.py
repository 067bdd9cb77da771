"""How fast a run is, and how much memory it needs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["Meter", "Throughput", "peak_memory"]


class Throughput(NamedTuple):
    """images_per_second: of the last window, None before a second step. memory_mib: the most so far, None where it can't be told."""

    images_per_second: float | None
    memory_mib: float | None


class Meter:
    """Images per second between two logs, without the first step of a run, which warms up, and without what is paused.

    Args:
        device: of the network.
        clock: seconds, for tests.
    """

    def __init__(self, device: torch.device | str = "cpu", clock: Callable[[], float] = time.monotonic) -> None:
        self.device, self._clock = torch.device(device), clock
        self._started: float | None = None
        self._images = 0

    def add(self, images: int) -> None:
        """Count a step that was made.

        Args:
            images: of its global batch.
        """
        if self._started is not None:
            self._images += images
            return
        if self.device.type == "cuda":  # once a run: the window must not begin with what the first step left to do
            torch.cuda.synchronize(self.device)
        self._started = self._clock()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is no training, such as a preview or a checkpoint: its time does not count."""
        before = self._clock()
        try:
            yield
        finally:
            if self._started is not None:
                self._started += self._clock() - before

    def take(self) -> Throughput:
        """The rate since the last time, and begin another window; on a GPU to be called when the step's loss has been read."""
        now = self._clock()
        rate = None
        if self._started is not None and self._images and now > self._started:
            rate = self._images / (now - self._started)
        if self._started is not None:
            self._started, self._images = now, 0
        return Throughput(rate, peak_memory(self.device))


def peak_memory(device: torch.device) -> float | None:
    """The most memory so far, in MiB: of tensors on a CUDA device, elsewhere of the process in RAM; None where it can't be told.

    Args:
        device: of the network.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage's would begin with that of the program that started this one
        held = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if held:
            return int(held[0]) / 2**10
    try:
        import resource
    except ImportError:  # Windows
        return None
    held_most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held_most / 2**10 if sys.platform != "darwin" else held_most / 2**20

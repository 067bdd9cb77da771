"""Batches in the order of steps, read in this process or ahead of time by others."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..schedules import Stream
from ..schedules.noise import host_integers
from .data import Batch, Source
from .draws import DataOrder
from .texts import texts_of

__all__ = ["Feed", "Read", "seed_everything"]


class Read(NamedTuple):
    """A micro-batch. places: in the global batch, int64 (B,). samples: in the data set, int64 (B,). batch: what was read there. texts:
    their captions, one or more each; None where the data have none."""

    places: Tensor
    samples: Tensor
    batch: Batch
    texts: list[tuple[str, ...]] | None = None


def seed_everything(seed: int, step: int, first: int, stream: Stream) -> None:
    """Let whatever draws from a global generator (dropout, a data set of the user's) draw by address.

    Args:
        seed: of the run.
        step: optimizer step.
        first: first place of the micro-batch.
        stream: what for.
    """
    a, b = host_integers(seed, first, step, 2, stream)
    if torch.accelerator.is_available():
        torch.manual_seed(a << 31 ^ b)
    else:  # as that does, without a note for every device that is not there, which takes a millisecond
        torch.default_generator.manual_seed(a << 31 ^ b)
    random.seed(a << 31 ^ b)
    np.random.seed(a)  # noqa: NPY002 - the global one is what others draw from


class Feed:
    """Reads the micro-batches of one process.

    Args:
        data: the data set.
        seed: of the run; the order is a function of it.
        micro_batches: places of each micro-batch of a step.
        batch: size of the global batch.
        steps: optimizer steps in all; nothing is read beyond.
        workers: processes that read ahead; 0: none, a batch is read when it is asked for.
    """

    def __init__(
        self, data: Source, seed: int, micro_batches: Sequence[range], batch: int, steps: int, workers: int = 0
    ) -> None:
        self._data, self._seed, self._batch, self._steps, self._workers = data, seed, batch, steps, workers
        self._order = DataOrder(seed, len(data))
        self._micro_batches = [torch.tensor(places) for places in micro_batches]  # the same at every step
        self._next, self._ahead = -1, iter(())

    def __call__(self, step: int) -> Iterator[Read]:
        """The micro-batches of a step, in turn.

        Raises:
            Exception: what reading raised, in whichever process.
            RuntimeError: when a reading process died.
        """
        if not self._workers:
            for places in self._micro_batches:
                yield _read(self._data, self._seed, *self._wanted(step, places))
            return
        if step != self._next:
            self._ahead = self._begin(step)
        self._next = step + 1
        for _ in self._micro_batches:
            read = next(self._ahead)
            if isinstance(read, Exception):
                raise read
            yield read

    def close(self) -> None:
        """Let the reading processes end."""
        self._ahead, self._next = iter(()), -1

    def _wanted(self, step: int, places: Tensor) -> tuple[int, Tensor, Tensor]:
        return step, places, self._order(step * self._batch + places)

    def _begin(self, step: int) -> Iterator[Read | Exception]:
        # as numbers: a tensor would be handed over as a file, which a reader that still asks for it when this process ends does not get
        positions = (
            (step, places.tolist(), samples.tolist())
            for s in range(step, self._steps)
            for step, places, samples in (self._wanted(s, places) for places in self._micro_batches)
        )
        return iter(
            DataLoader(
                _Reading(self._data, self._seed), batch_size=None, sampler=_Once(positions), num_workers=self._workers,
                worker_init_fn=_leave_signals,
            )
        )  # fmt: skip


def _read(data: Source, seed: int, step: int, places: Tensor, samples: Tensor) -> Read:
    seed_everything(seed, step, int(places[0]), Stream.DATA)
    return Read(places, samples, data.batch(samples), texts_of(data, samples))


class _Once:
    """A sampler that is walked through once."""

    def __init__(self, positions: Iterator[tuple[int, list[int], list[int]]]) -> None:
        self._positions = positions

    def __iter__(self) -> Iterator[tuple[int, list[int], list[int]]]:
        return self._positions


class _Reading(Dataset[Read | Exception]):
    """The data set as a DataLoader's workers see it."""

    def __init__(self, data: Source, seed: int) -> None:
        self._data, self._seed = data, seed

    def __getitem__(self, wanted: tuple[int, list[int], list[int]]) -> Read | Exception:
        step, places, samples = wanted
        try:
            return _read(self._data, self._seed, step, torch.tensor(places), torch.tensor(samples))
        except (
            Exception
        ) as error:  # raised again by who asked, as it was, without the worker's traceback in its message
            return error


def _leave_signals(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal; who decides when to stop is the trainer."""
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGINT)):
        signal.signal(number, signal.SIG_IGN)

"""What the server holds for comparisons beside its models: networks at other checkpoints, finished cells, and how fast each model is."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from ...diffusion import Model, load
from ..compare.engine import Comparison
from ..compare.looking import Looking
from ..compare.networks import Networks
from ..compare.what_looks import what_looks
from ..compare.where import home_of
from .compare_asked import Wanted
from .compare_store import Kept
from .shelf import Loaded, Shelf

__all__ = ["Stock"]

# models whose networks are kept; a comparison that goes on holds its own
_MODELS = 2
# pictures at a time, as the command has it
_BATCH = 64
# short runs that are timed at the most, and seconds after which no other is begun
_RUNS, _TIMING = 5, 0.5


class Stock:
    """Networks and finished cells by model, each made once.

    Args:
        shelf: where weaker models are.
        most: bytes of finished cells per model.
    """

    def __init__(self, shelf: Shelf, most: int = 256 * 2**20) -> None:
        self._shelf, self._most = shelf, most
        self._networks: OrderedDict[int, tuple[Loaded, Networks]] = OrderedDict()
        self._stores: dict[str, Kept] = {}
        self._paces: dict[tuple[str, int], float] = {}
        self._looking: dict[tuple[str, int], tuple[Looking, list[str]]] = {}
        self._lock = threading.RLock()

    def networks(self, loaded: Loaded) -> Networks:
        """Of a model at all checkpoints, and of the weaker models of the shelf."""
        with self._lock:
            if id(loaded) not in self._networks:
                self._networks[id(loaded)] = (
                    loaded,
                    Networks(lambda c, e: _model(loaded, c, e), lambda n, s: self._weak(n)),
                )
            self._networks.move_to_end(id(loaded))
            while len(self._networks) > _MODELS:
                self._networks.popitem(last=False)
            return self._networks[id(loaded)][1]

    def _weak(self, name: str) -> Model:
        return self._shelf.get(name).model

    def store(self, loaded: Loaded) -> Kept:
        """Of a model: the folder of the command, so that either finds what the other made; of a model without a folder, memory."""
        entry = loaded.entry
        with self._lock:
            if entry.name not in self._stores:
                known = entry.home != Path()
                self._stores[entry.name] = Kept(home_of(str(entry.home)) / "cells" if known else None, self._most)
            return self._stores[entry.name]

    def comparison(self, wanted: Wanted) -> tuple[Comparison, list[str]]:
        """What does the work, and remarks on what it measures; nothing is asked of a network yet."""
        looking, remarks = self._looks(wanted) if wanted.own.frechet else (Looking(), [])
        networks, store = self.networks(wanted.loaded), self.store(wanted.loaded)
        made = Comparison(
            wanted.x, wanted.y, wanted.cells, wanted.base, wanted.shared, networks, store, looking
        )  # fmt: skip
        return made, remarks

    def _looks(self, wanted: Wanted) -> tuple[Looking, list[str]]:
        """The extractor and the data; found once for each number of pictures."""
        entry = wanted.loaded.entry
        key = (entry.name, wanted.own.count)
        if key not in self._looking:
            options = replace(wanted.options, run=str(entry.home))
            self._looking[key] = what_looks(options, wanted.loaded.model, wanted.own.count)
        return self._looking[key]

    def pace(self, loaded: Loaded, count: int) -> float | None:
        """Seconds per evaluation of the network, as measured last with about so many pictures at a time; None: nobody knows yet."""
        return self._paces.get(_pace_key(loaded, count))

    def measured(self, loaded: Loaded, count: int, seconds: float, evaluations: int) -> None:
        """Note how long evaluations took, all around them included."""
        if evaluations > 0 and seconds > 0:
            self._paces[_pace_key(loaded, count)] = seconds / evaluations

    def time_steps(self, loaded: Loaded, count: int) -> None:
        """Measure the pace by the fastest of a few short runs, after one that warms up; for who does not know it yet.

        Args:
            loaded: the model.
            count: pictures at a time.
        """
        if self.pace(loaded, count) is not None:
            return
        model = loaded.model
        seeds, classes = range(min(count, _BATCH)), _classes(model, min(count, _BATCH))
        model.sample(seeds, classes, steps=2)
        began, best, evaluations = time.perf_counter(), math.inf, 0
        for i in range(_RUNS):
            at = time.perf_counter()
            evaluations = int(model.sample(seeds, classes, steps=4).evaluations.sum())
            # what else the machine does only ever makes it slower
            best = min(best, time.perf_counter() - at)
            if i and time.perf_counter() - began > _TIMING:  # two at least: one alone may be a slow moment
                break
        self.measured(loaded, count, best, evaluations)


def _pace_key(loaded: Loaded, count: int) -> tuple[str, int]:
    """Of a model and a number of pictures, up to the next power of two: few at a time take longer for each."""
    return loaded.entry.name, (min(count, _BATCH) - 1).bit_length()


def _classes(model: Model, count: int) -> list[int | None] | None:
    return [i % model.num_classes for i in range(count)] if model.num_classes else None


def _model(loaded: Loaded, checkpoint: int | None, ema: bool | float) -> Model:
    """A model of the same run at a checkpoint, with an average; the loaded one where it is that."""
    model, own = loaded.model, loaded.model.source
    if (
        checkpoint in (None, own.get("checkpoint"))
        and ema == own.get("ema", True)
        and type(ema) is type(own.get("ema", True))
    ):
        return model
    if not loaded.entry.run:
        raise ValueError("checkpoints and averages are those of runs of our own, and this model is none")
    # the newest is the newest of when the model was loaded, so that all cells are of one run as it was
    step = own.get("checkpoint") if checkpoint is None else checkpoint
    return load(loaded.entry.home, ema=ema, step=step, device=str(model.device))

"""Where the schedule tab begins: the process of a model on the shelf, or of a preset."""

from __future__ import annotations

import shlex
import threading
from pathlib import Path
from typing import NamedTuple

from ...diffusion import Model
from ...schedules import Constant, Uniform, UniformEntries
from ...schedules.parts import describe
from ...schedules.schedule import entries
from ..arguments import preset_names
from ..inspected import Inspected, Parts, look
from .shelf import Entry, Shelf

__all__ = ["MODEL", "Source", "Sources"]

MODEL = "the model above"

_CONFIGS = ("config.yaml", "scheduler_config.json", "scheduler/scheduler_config.json")


class Source(NamedTuple):
    """A process, words of a command that begins with it or with another one, and that one. note: for the visitor, as HTML."""

    inspected: Inspected
    base: str
    begun: Inspected
    note: str = ""


class Sources:
    """Processes by name, each read once: neither a network nor its weights are loaded where a config says what there is.

    Args:
        shelf: the models.
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._lock = threading.Lock()
        self._presets: dict[str, Source] = {}
        self._models: dict[str, tuple[object, Source]] = {}

    def get(self, name: object, source: str) -> Source:
        """A process.

        Args:
            name: of the model above the tabs; None: there is none.
            source: `MODEL`, or a preset.

        Raises:
            ValueError: for what is neither, and what can't be read.
        """
        if source == MODEL and name is not None:
            return self._model(name)
        preset = "digits" if source == MODEL else source
        if preset not in preset_names():
            raise ValueError(f"there is no such preset; allowed: {', '.join(preset_names())}")
        with self._lock:
            if preset not in self._presets:
                there = look(preset, [], [], None)
                self._presets[preset] = Source(there, preset, there)
            found = self._presets[preset]
        if source == MODEL:
            note = '<p class="sf-soft">There is no model yet; this is the preset digits.</p>'
            return found._replace(note=note)
        return found

    def _model(self, name: object) -> Source:
        entry = self._shelf.entry(name)
        config = next((entry.home / c for c in _CONFIGS if (entry.home / c).is_file()), None)
        # a folder that is written to again says so by its time
        stamp = (entry, config.stat().st_mtime_ns if config is not None and entry.home != Path() else None)
        with self._lock:
            there = self._models.get(entry.name)
        if there is not None and there[0] == stamp:
            return there[1]
        found = self._read(name, entry) if stamp[1] is not None else self._loaded(name)
        with self._lock:
            self._models[entry.name] = (stamp, found)
        return found

    def _read(self, name: object, entry: Entry) -> Source:
        words = shlex.split(entry.command)
        allow = [words[k + 1] for k, word in enumerate(words[:-1]) if word == "--allow"]
        try:
            inspected = look(str(entry.home), [], allow, None)
        except ValueError:  # more than the config is needed, or another form of it
            return self._loaded(name)
        if not words:
            return self._from_digits(inspected)
        base = shlex.join([words[0], *(w for package in allow for w in ("--allow", package))])
        return Source(inspected, base, inspected)

    def _loaded(self, name: object) -> Source:
        """What the model itself knows; how it was trained it does not."""
        return self._from_digits(_of(self._shelf.get(name).model))

    def _from_digits(self, inspected: Inspected) -> Source:
        """A process that no command names: all that is different from a preset is said."""
        return Source(inspected, "digits", self.get(None, "digits").inspected)


def _of(model: Model) -> Inspected:
    d = model.denoiser
    density = Uniform() if entries(d.schedule) is None else UniformEntries()
    parts = Parts(
        schedule=d.schedule, row=d.row, density=density, weighting=Constant(d.row), sampler=model.sampler, grid=model.grid,
        sampling_steps=model.steps, input_std=None if d.input_std == d.row.input_std else d.input_std,
    )  # fmt: skip
    size = model.shape[-1] * model.shape[-2] if len(model.shape) == 3 else model.shape[-1]
    return Inspected(parts, describe(parts)["init_args"], int(size), True)

"""The models that can be chosen: a list that the server holds, by name. No path ever comes from a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from ...diffusion import Model

__all__ = ["Entry", "Loaded", "Shelf"]

# bytes of weights that are kept at once; beyond that the one that was used longest ago goes
_KEPT = 4 * 2**30


@dataclass(frozen=True, eq=False)
class Entry:
    """A model that can be chosen.

    name: in the menu. load: makes it. newest: something that is another when a newer checkpoint is there. home: its folder, which no
    browser is told. run: whether it is a run of ours, rather than somebody else's model. command: how a command names it.
    """

    name: str
    load: Callable[[], Model]
    newest: Callable[[], Hashable] = lambda: None
    home: Path = Path()
    run: bool = True
    command: str = ""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model as it was when it was loaded: whoever holds it samples from this one to the end, whatever is published meanwhile.

    entry: what it was loaded of. model: itself. version: of `entry.newest` at that time.
    """

    entry: Entry
    model: Model
    version: Hashable


class Shelf:
    """Models by name, loaded when they are asked for, once, and again when a newer checkpoint is there."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        self._loaded: dict[str, Loaded] = {}
        self._lock = threading.RLock()
        for entry in entries:
            self.add(entry)

    @property
    def names(self) -> list[str]:
        """Of all models, in the order they were added."""
        return list(self._entries)

    def add(self, entry: Entry) -> str:
        """One more model; returns the name that it got, which has a number at its end where another model has that name."""
        with self._lock:
            name, n = entry.name, 1
            while name in self._entries:
                n += 1
                name = f"{entry.name} ({n})"
            self._entries[name] = entry
            return name

    def entry(self, name: object) -> Entry:
        """What is known of a model without loading it.

        Raises:
            ValueError: for a name that is not on the list.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise ValueError(
                f"there is no such model; allowed: {', '.join(self._entries) or 'none yet, train one first'}"
            )
        return self._entries[name]

    def get(self, name: object) -> Loaded:
        """A model, loaded.

        Raises:
            ValueError: for a name that is not on the list, and what loading refuses.
        """
        entry = self.entry(name)
        assert isinstance(name, str)
        with self._lock:  # a second visitor waits for the first one's loading rather than loading it again
            there, version = self._loaded.pop(name, None), entry.newest()
            if there is None or there.version != version:
                there = Loaded(entry, entry.load(), version)
            self._loaded[name] = there  # the last used is the last
            while len(self._loaded) > 1 and sum(_bytes(each.model) for each in self._loaded.values()) > _KEPT:
                del self._loaded[next(iter(self._loaded))]
            return there


def _bytes(model: Model) -> int:
    return sum(p.numel() * p.element_size() for p in model.denoiser.parameters())

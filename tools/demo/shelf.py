"""The models that can be chosen: a list that the server holds, by name. No path ever comes from a browser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ...diffusion import Model
from .told import readable

__all__ = ["Entry", "Loaded", "Shelf"]

# bytes of weights that are kept at once; beyond that the one that was used longest ago goes
_KEPT = 4 * 2**30
# how often a model is read again that was replaced by a newer one meanwhile
_TRIES = 3


@dataclass(frozen=True, eq=False)
class Entry:
    """A model that can be chosen.

    name: in the menu. load: makes it. newest: something that is another when a newer checkpoint is there. home: its folder, which no
    browser is told. run: whether it is a run of ours, rather than somebody else's model. command: the words by which a command names it,
    with the options that it needs, quoted for a shell.
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
    """Models by name, loaded when they are asked for, once, and again when a newer checkpoint is there.

    Args:
        entries: in the order of the menu.
        kept: bytes of weights that stay in memory; what is over goes, the one that was used longest ago first.
    """

    def __init__(self, entries: list[Entry], kept: int = _KEPT) -> None:
        self._entries: dict[str, Entry] = {}
        self._loaded: dict[str, Loaded] = {}
        # one to look at the lists, which is held for moments, and one per model, which is held while it is loaded
        self._lock, self._turns, self._kept = threading.Lock(), dict[str, threading.Lock](), kept
        for entry in entries:
            self.add(entry)

    @property
    def names(self) -> list[str]:
        """Of all models, in the order they were added."""
        with self._lock:
            return list(self._entries)

    def add(self, entry: Entry) -> str:
        """One more model; returns the name that it got, which has a number at its end where another model has that name."""
        with self._lock:
            name, n = entry.name, 1
            while name in self._entries:
                n += 1
                name = f"{entry.name} ({n})"
            self._entries[name], self._turns[name] = entry, threading.Lock()
            return name

    def entry(self, name: object) -> Entry:
        """What is known of a model without loading it.

        Raises:
            ValueError: for a name that is not on the list.
        """
        found = self._entries.get(name) if isinstance(name, str) else None
        if found is None:
            raise ValueError(f"there is no such model; allowed: {', '.join(self.names) or 'none yet, train one first'}")
        return found

    def ready(self, name: object) -> bool:
        """Whether `get` answers at once; where it does not, a visitor is told that the model is being loaded.

        Raises:
            ValueError: for a name that is not on the list.
        """
        entry = self.entry(name)
        there = self._loaded.get(str(name))
        return there is not None and there.version == _version(entry)

    def get(self, name: object) -> Loaded:
        """A model, loaded: by the first who asks, while others who want the same one wait, and those who want another do not.

        Raises:
            ValueError: for a name that is not on the list, and with the reason where it can't be loaded.
        """
        entry = self.entry(name)
        name = str(name)
        with self._turns[name]:
            there = self._loaded.get(name)
            if there is None or not self.ready(name):
                there = _load(name, entry)
            with self._lock:
                self._loaded.pop(name, None)
                self._loaded[name] = there  # the last used is the last
                while len(self._loaded) > 1 and sum(_bytes(each.model) for each in self._loaded.values()) > self._kept:
                    del self._loaded[next(iter(self._loaded))]
            return there


def _load(name: str, entry: Entry) -> Loaded:
    """A model, with the version that it is of; read again where a newer one took its place while it was read."""
    tries = _TRIES
    while True:
        tries, version = tries - 1, _version(entry)
        try:
            return Loaded(entry, entry.load(), version)
        except (ValueError, OSError, RuntimeError, MemoryError, ImportError, LookupError, TypeError) as error:
            if tries and _version(entry) != version:
                continue
            lines = readable(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"{name} can't be loaded: {' '.join(lines)[:600]}") from error


def _version(entry: Entry) -> Hashable:
    """Of the newest checkpoint; None where it can't be told, which loading will say in words."""
    try:
        return entry.newest()
    except (OSError, ValueError):
        return None


def _bytes(model: Model) -> int:
    """Of all weights: the network's, its VAE's and its text encoders', shared ones once."""
    weights = [p for part in (model.denoiser, model.vae, model.text) for m in _modules(part) for p in m.parameters()]
    return sum({p.data_ptr(): p.numel() * p.element_size() for p in weights}.values())


def _modules(part: object) -> Iterator[nn.Module]:
    """Networks that a part is, or holds, or that a pipeline which it holds has for components."""
    if isinstance(part, nn.Module):
        yield part
        return
    for held in vars(part).values() if hasattr(part, "__dict__") else ():
        inner = getattr(held, "components", None)
        for each in (held, *(inner.values() if isinstance(inner, Mapping) else ())):
            if isinstance(each, nn.Module):
                yield each

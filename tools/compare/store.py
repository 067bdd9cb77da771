"""Finished cells on disk: pictures as bytes, numbers, and what was said, each in one file that is written whole."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...diffusion.whole_file import whole_file
from ...schedules.plain_json import from_json, to_json

__all__ = ["FORMAT", "Store", "Stored", "address"]

FORMAT = 1


@dataclass(frozen=True)
class Stored:
    """What was kept of a computation.

    about: plain data. arrays: by name.
    """

    about: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def address(known: Mapping[str, Any]) -> str:
    """The name of a computation: a hash of everything that makes its numbers.

    Args:
        known: plain data.
    """
    text = json.dumps(to_json({"format": FORMAT, **known}), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Store:
    """A folder of computations by their address. Each file is a .npz, whose parts have checksums: a damaged one counts as missing.

    Args:
        folder: where; made by the first file. None: nothing is kept beyond this object.
        fresh: what lies there does not count, and is replaced.
    """

    def __init__(self, folder: Path | None, fresh: bool = False) -> None:
        self.folder, self._fresh = folder, fresh
        self._known: dict[str, Stored] = {}

    def has(self, key: str) -> bool:
        """Whether it is there; whether it is whole is found when it is read."""
        return key in self._known or (not self._fresh and self._path(key) is not None)

    def get(self, key: str) -> Stored | None:
        """What lies at an address; None for nothing, and for a file that is damaged."""
        if key in self._known:
            return self._known[key]
        path = None if self._fresh else self._path(key)
        if path is None:
            return None
        try:
            with np.load(path, allow_pickle=False) as found:
                arrays = {name: found[name] for name in found.files}
            about = from_json(json.loads(arrays.pop("about").tobytes().decode()))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError, RecursionError):
            return None
        # an address that is not its own: a file that was renamed
        return Stored(about["about"], arrays) if isinstance(about, dict) and about.get("key") == key else None

    def put(self, key: str, stored: Stored) -> None:
        """Keep it."""
        if self.folder is None or self._fresh:
            self._known[key] = stored
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(to_json({"key": key, "about": stored.about}), allow_nan=False).encode()
        with whole_file(self.folder / f"{key}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, about=np.frombuffer(text, np.uint8), **stored.arrays)  # pyright: ignore[reportArgumentType]

    def _path(self, key: str) -> Path | None:
        path = None if self.folder is None else self.folder / f"{key}.npz"
        return path if path is not None and path.is_file() else None

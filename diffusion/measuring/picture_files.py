"""Picture files to be measured: any folder of them, at their own size, with what ours say of themselves."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...schedules.plain_json import from_json
from ..decode import Decoder
from ..image_files import SUFFIXES, Links, image_files
from ..images import KEY

__all__ = ["OfFolder", "settings_of_file"]

# what `sfumato sample` leaves beside its pictures
_BESIDE = ("sheet.png", "filtered.png", "samples.png")
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L")
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)


def settings_of_file(path: str | Path) -> dict[str, Any] | None:
    """How a picture of ours was made, from its metadata; None for a picture of somebody else's, or one that can't be read."""
    try:
        with Image.open(path) as image:  # reads no pixels
            text = image.info.get(KEY)
        found = None if text is None else from_json(json.loads(text))
    except (OSError, SyntaxError, ValueError, RecursionError, Image.DecompressionBombError):
        return None
    return found if isinstance(found, dict) else None


@dataclass(frozen=True)
class OfFolder:
    """The pictures of a folder, at their own size.

    A folder that `sfumato sample` made gives its pictures only, not its sheets, and their labels; of any other, sub-folders are the
    classes. The fingerprint is that of names, sizes and shape, not of pixels.

    Args:
        root: the folder.
        size: pixels, height and width, to which every picture is cropped and resized: one number, or the two; None: they have one size.
        channels: 1 (grey) or 3 (RGB); None: grey where all are grey.
        count: how many, from the first; None: all.
        threads: decoding threads, >= 1.
        links: "inside": links that lead out of the folder are refused; "anywhere": they are followed.

    Raises:
        ValueError: for a folder that is missing, and, when read, for one without pictures, with pictures of several sizes where `size` is
            None, or with a file that is no picture, naming it.
    """

    root: str
    size: int | Sequence[int] | None = None
    channels: int | None = None
    count: int | None = None
    threads: int = 2
    links: Links = "inside"

    def __post_init__(self) -> None:
        if self.size is not None and not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))
        if not Path(self.root).is_dir():
            raise ValueError(f"OfFolder.root is {str(self.root)!r}, which is not a folder; give a folder of pictures")
        if self.threads < 1:
            raise ValueError(f"OfFolder.threads is {self.threads}; allowed: >= 1")
        try:
            Decoder(1 if self.size is None else self.size, 1 if self.channels is None else self.channels)
        except ValueError as error:
            raise ValueError(f"OfFolder.{error}") from error

    @cached_property
    def ours(self) -> bool:
        """Whether `sfumato sample` made it."""
        return next(Path(self.root).glob("seed-*.png"), None) is not None

    @cached_property
    def names(self) -> list[str]:
        """The files, from the folder, in order."""
        try:
            found = image_files(Path(self.root), self.links)
        except ValueError as error:
            raise ValueError(f"OfFolder.root {self.root!r}: {error}") from error
        # hidden ones are attempts that a filter rejected, thumbnails, and the like
        found = [name for name in found if not any(part.startswith(".") for part in name.split("/"))]
        if self.ours:
            found = [name for name in found if "/" not in name and name.startswith("seed-") and name not in _BESIDE]
        if not found:
            raise ValueError(
                f"OfFolder.root {str(self.root)!r} holds no picture; allowed endings: {', '.join(SUFFIXES)}"
            )
        if self.count is not None and not 1 <= self.count <= len(found):
            raise ValueError(
                f"OfFolder.count is {self.count}; allowed: 1 to {len(found)}, the pictures in {str(self.root)!r}"
            )
        return found[: self.count]

    def path(self, index: int) -> str:
        """The file of a picture."""
        return os.path.join(self.root, self.names[index])

    @cached_property
    def _decoder(self) -> Decoder:
        """How files are read; made after a look at the header of each."""
        if self.size is not None and self.channels is not None:
            return Decoder(self.size, self.channels)
        sizes: dict[tuple[int, int], str] = {}
        grey = True
        for i, name in enumerate(self.names):
            size, own = _header(self.path(i))
            sizes.setdefault(size, name)
            grey &= own
            if len(sizes) > 1 and self.size is None:
                (a, first), (b, second) = list(sizes.items())[:2]
                raise ValueError(
                    f"the pictures in {str(self.root)!r} are not of one size: {first} is {a[1]} x {a[0]} (width x height), {second} is "
                    f"{b[1]} x {b[0]}; give the size to which all are cropped and resized (--size, OfFolder(size=...))"
                )
        channels = self.channels if self.channels is not None else 1 if grey else 3
        return Decoder(next(iter(sizes)) if self.size is None else self.size, channels)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._decoder.shape

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        try:
            listing = "\n".join(f"{n} {os.stat(self.path(i)).st_size}" for i, n in enumerate(self.names))
        except OSError as error:
            raise ValueError(f"{error.filename} can't be found any more: {error.strerror}; put it back") from error
        return hashlib.sha256(f"{self._decoder.words}\n{listing}".encode()).hexdigest()[:16]

    def pixels(self, index: Tensor) -> Tensor:
        decoder = self._decoder
        paths = [self.path(i) for i in index.tolist()]
        with ThreadPoolExecutor(self.threads) as pool:
            return torch.stack(list(pool.map(lambda path: decoder.read(path, path), paths)))

    @cached_property
    def settings(self) -> list[dict[str, Any]] | None:
        """How each picture was made; None where not all of them say."""
        if not self.ours:
            return None
        with ThreadPoolExecutor(self.threads) as pool:
            found = list(pool.map(settings_of_file, (self.path(i) for i in range(len(self)))))
        return None if any(each is None for each in found) else [each for each in found if each is not None]

    @cached_property
    def class_names(self) -> Sequence[str]:
        """The names of the class folders, by label; empty where there are none."""
        tops = [name.partition("/") for name in self.names]
        return sorted({top for top, inner, _ in tops if inner}) if all(inner for _, inner, _ in tops) else []

    def classes(self) -> Tensor | None:
        if self.settings is not None:
            labels = [_label(each) for each in self.settings]
            return torch.tensor(labels) if any(label >= 0 for label in labels) else None
        place = {name: i for i, name in enumerate(self.class_names)}
        return torch.tensor([place[name.partition("/")[0]] for name in self.names]) if place else None


def _label(settings: Mapping[str, Any]) -> int:
    """The class that a picture of ours was asked for; -1: none."""
    label = settings.get("label")
    return label if isinstance(label, int) and label != settings.get("null_class") else -1


def _header(path: str) -> tuple[tuple[int, int], bool]:
    """(height, width) as it will be shown, and whether it is grey; of a file that is no picture the reading says what is wrong."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            # a file that is turned by its metadata changes places
            turned = "exif" in image.info and image.getexif().get(_ORIENTATION) in _TURNED
            return ((width, height) if turned else (height, width)), image.mode in _GREY
    except Exception as error:  # on damaged files decoders fail in any way
        if isinstance(error, MemoryError):
            raise
        raise ValueError(
            f"{path} can't be read as an image: {str(error) or type(error).__name__}; mend or remove it"
        ) from error

"""Training data from a folder of images."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from .caption_files import read_captions
from .data import Batch
from .decode import MAX_PIXELS, Decoder, Resample, Resize
from .image_files import SUFFIXES, Links, image_files
from .labels import read_labels

__all__ = ["ImageFolder"]


class _Files(NamedTuple):
    """names: paths from the root. labels: of each, empty without classes. num_classes: 0 without. classes: their names, where known."""

    names: list[str]
    labels: list[int]
    num_classes: int
    classes: list[str]


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder; its sub-folders are the classes, in alphabetical order, or a file says the label of each.

    Turned as their EXIF says, cropped about the centre and resized; transparent ones are laid on black; of 16-bit ones the upper 8 bits are
    used; floating-point ones are refused. The fingerprint is that of names, sizes and labels, not of pixels. Archives are not read:
    unpack them.

    Args:
        root: the folder. Images directly in it: no classes.
        size: pixels, height and width: one number, or the two; >= 1.
        channels: 1 (grey) or 3 (RGB).
        threads: decoding threads, >= 1.
        labels: a JSON file in the folder that says the label of every image, {"labels": [["00000/img.png", 3], ...]} (EDM's and StyleGAN's
            dataset.json; with null: no classes) or {"00000/img.png": 3}; sub-folders then mean nothing.
        classes: labels are below it; None: one more than the largest.
        resize: "centre": cropped, then resized at once; "adm": halved by averaging, resized, then cropped, as ADM and EDM do for ImageNet.
        resample: the filter of the resizing; "adm" takes "bicubic".
        max_pixels: that a file may have, known before it is decoded; >= 1.
        captions: a file in the folder that says the caption of every image, or several: .json, {"a.png": "a cat"}; .jsonl, lines of
            {"file_name": "a.png", "text": "a cat"}; or "txt", of a text file beside each image, its lines. Sub-folders are no classes then.
        links: "inside": links that lead out of the folder are refused; "anywhere": they are followed.

    Raises:
        ValueError: for a folder that is missing or holds no image, mixed images and sub-folders, labels out of range or that are not there,
            other values, and, when read, for a file that is not an image, with its path.
    """

    root: str
    size: int | Sequence[int] = 32
    channels: int = 3
    threads: int = 2
    labels: str | None = None
    classes: int | None = None
    resize: Resize = "centre"
    resample: Resample = "lanczos"
    max_pixels: int = MAX_PIXELS
    links: Links = "inside"
    captions: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))  # from YAML it is a list, which has no hash
        try:
            _ = self._decoder
        except ValueError as error:
            raise ValueError(f"ImageFolder.{error}") from error
        if self.threads < 1:
            raise ValueError(f"ImageFolder.threads is {self.threads}; allowed: >= 1")
        if self.links not in get_args(Links):
            raise ValueError(f"ImageFolder.links is {self.links!r}; allowed: 'inside', 'anywhere'")
        if self.classes is not None and (self.labels is None or self.classes < 1):
            raise ValueError(f"ImageFolder.classes is {self.classes}; allowed: >= 1, and only with a file of labels")
        root = Path(self.root)
        if root.is_file():
            raise ValueError(
                f"ImageFolder.root is {self.root!r}, a file; allowed: a folder, so unpack an archive first"
            )
        if not root.is_dir():
            raise ValueError(f"ImageFolder.root is {self.root!r}, which is not a folder")

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.size, self.channels, self.resize, self.resample, self.max_pixels)

    @cached_property
    def _files(self) -> _Files:
        root = Path(self.root)
        try:
            names = image_files(root, self.links)
        except ValueError as error:
            raise ValueError(f"ImageFolder.root {self.root!r}: {error}") from error
        if not names:
            raise ValueError(f"ImageFolder.root {self.root!r} holds no image; allowed endings: {', '.join(SUFFIXES)}")
        if self.labels is not None:
            labels, number = read_labels(root / self.labels, names, self.classes)
            return _Files(names, labels, number, [])
        if self.captions is not None:
            return _Files(names, [], 0, [])
        tops = [name.partition("/") for name in names]
        classes = sorted({top for top, inner, _ in tops if inner})
        if classes and not all(inner for _, inner, _ in tops):
            raise ValueError(
                f"ImageFolder.root {self.root!r} holds both images and class folders; move the images into one, or give labels"
            )
        place = {top: i for i, top in enumerate(classes)}
        return _Files(names, [place[top] for top, _, _ in tops] if classes else [], len(classes), classes)

    @cached_property
    def _captions(self) -> list[tuple[str, ...]] | None:
        """The captions of each image."""
        if self.captions is None:
            return None
        try:
            return read_captions(Path(self.root), self.captions, self._files.names)
        except ValueError as error:
            raise ValueError(f"ImageFolder.{error}") from error

    def __len__(self) -> int:
        return len(self._files.names)

    def texts(self, index: Tensor) -> Sequence[tuple[str, ...]] | None:
        """The captions of some images; None without captions."""
        return None if self._captions is None else [self._captions[i] for i in index.tolist()]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._decoder.shape

    @property
    def num_classes(self) -> int:
        return self._files.num_classes

    @property
    def bins(self) -> int:
        """Values that a number of the data can take, over [-1, 1]."""
        return 256

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the class folders, by label; empty where a file says the labels."""
        return self._files.classes

    @cached_property
    def fingerprint(self) -> str:
        try:
            listing = "\n".join(f"{n} {os.stat(os.path.join(self.root, n)).st_size}" for n in self._files.names)
        except OSError as error:
            raise ValueError(f"{error.filename} can't be found any more: {error.strerror}; put it back") from error
        if self.labels is not None:
            listing += f"\n{self._files.num_classes} {self._files.labels}"
        if self._captions is not None:
            listing += f"\n{json.dumps(self._captions)}"
        return hashlib.sha256(f"{self._decoder.words}\n{listing}".encode()).hexdigest()[:16]

    def _path(self, index: int) -> str:
        return os.path.join(self.root, self._files.names[index])

    def _read(self, index: int) -> Tensor:
        path = self._path(index)
        return self._decoder.read(path, path)

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, found by decoding it and by its checksums; None where nothing is."""
        path = self._path(index)
        try:
            self._decoder.read(path, path)
            self._decoder.verify(path, path)
        except ValueError as error:
            return str(error)
        return None

    def batch(self, index: Tensor) -> Batch:
        labels, chosen = self._files.labels, index.tolist()
        with ThreadPoolExecutor(self.threads) as pool:
            x = torch.stack(list(pool.map(self._read, chosen)))
        return Batch(x.float() / 127.5 - 1, torch.tensor([labels[i] for i in chosen]) if labels else None)

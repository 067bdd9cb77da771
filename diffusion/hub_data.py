"""Training data from Hugging Face `datasets`: the one file that knows that library."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .data import Batch
from .decode import MAX_PIXELS, Decoder, Resample, Resize
from .hub_files import read_folder
from .labels import check_range

__all__ = ["HuggingFace"]

_HUB = "hub:"
_SAMPLED, _ROUND = 64, 1000


@dataclass(frozen=True)
class HuggingFace:
    """Images of a data set of Hugging Face's `datasets`, made into pictures as `ImageFolder` does.

    Nothing is downloaded unless a data set of the hub is named, and images that are only a path or an address are not opened. The
    fingerprint is that of all labels, of the lengths of all encoded images in order, and of the bytes of 64 of them; it does not depend on
    where and how they are stored (the library's own says how a set was made, and not what is in it).

    Args:
        path: a folder written by `save_to_disk`, a folder of parquet files, or "hub:OWNER/NAME", which is downloaded.
        split: which part; in a folder of parquet files, those that are named after it.
        image: the column of images.
        label: the column of labels; None: no classes.
        caption: the column of captions, a text or a list of texts for each image; None: no captions.
        size, channels, threads, resize, resample, max_pixels: as of `ImageFolder`.
        classes: labels are below it; None: those that the data set names, else one more than the largest.
        subset, revision: of a data set of the hub.

    Raises:
        ValueError: for a path that is neither, other values, and, when read, without the library, for a column or split that is not there,
            labels out of range, and an image that can't be read, with its row.
    """

    path: str
    split: str = "train"
    image: str = "image"
    label: str | None = None
    size: int | Sequence[int] = 32
    channels: int = 3
    threads: int = 2
    classes: int | None = None
    resize: Resize = "centre"
    resample: Resample = "lanczos"
    max_pixels: int = MAX_PIXELS
    subset: str | None = None
    revision: str | None = None
    caption: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.size, int):
            object.__setattr__(self, "size", tuple(self.size))  # from YAML it is a list, which has no hash
        try:
            _ = self._decoder
        except ValueError as error:
            raise ValueError(f"HuggingFace.{error}") from error
        if self.threads < 1:
            raise ValueError(f"HuggingFace.threads is {self.threads}; allowed: >= 1")
        if self.classes is not None and (self.label is None or self.classes < 1):
            raise ValueError(f"HuggingFace.classes is {self.classes}; allowed: >= 1, and only with a column of labels")
        hub = self.path.startswith(_HUB)
        if not hub and not Path(self.path).is_dir():
            raise ValueError(
                f"HuggingFace.path is {self.path!r}, which is not a folder; allowed: a folder, or {_HUB}OWNER/NAME, which is downloaded"
            )
        if not hub and (self.subset is not None or self.revision is not None):
            raise ValueError("HuggingFace.subset and revision are for data sets of the hub; leave them out")

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self.size, self.channels, self.resize, self.resample, self.max_pixels)

    @cached_property
    def _rows(self) -> Any:
        """The data set, giving Arrow tables of what is stored: the library decodes nothing and opens no path."""
        try:
            import datasets  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ValueError("data HuggingFace needs datasets: pip install 'sfumato[datasets]'") from error
        try:
            if self.path.startswith(_HUB):
                name = self.path.removeprefix(_HUB)
                found = datasets.load_dataset(name, self.subset, split=self.split, revision=self.revision)
            else:
                found = read_folder(datasets, Path(self.path).resolve(), self.split)
        except Exception as error:  # the library's, Arrow's, the network's
            raise ValueError(f"HuggingFace.path {self.path!r} can't be read: {error}") from error
        for key, name in (("image", self.image), ("label", self.label), ("caption", self.caption)):
            if name is not None and name not in found.column_names:
                raise ValueError(
                    f"HuggingFace.{key} is {name!r}, which is no column of {self.path!r}; allowed: {', '.join(found.column_names)}"
                )
        kind = str(found.data.schema.field(self.image).type)
        if "binary" not in kind.partition("<")[0] and not (kind.startswith("struct<") and "bytes: " in kind):
            raise ValueError(
                f"HuggingFace.image is {self.image!r}, a column of {kind}; allowed: images, or the bytes of image files"
            )
        if not len(found):
            raise ValueError(f"HuggingFace.path {self.path!r} holds no sample in split {self.split!r}")
        return found.with_format("arrow")

    @cached_property
    def _images(self) -> Any:
        return self._rows.select_columns([self.image])  # kept, since the library hashes what it does each time

    @cached_property
    def _labels(self) -> tuple[list[int], int, list[str]]:
        """The label of each sample, the number of classes and, where the data set says them, their names."""
        if self.label is None:
            return [], 0, []
        names = list(getattr(self._rows.features[self.label], "names", None) or [])
        classes = len(names) if names and self.classes is None else self.classes
        labels = self._rows.select_columns([self.label])[:].column(self.label).to_pylist()
        where = f"HuggingFace.path {self.path!r}, column {self.label!r}"
        return labels, check_range(labels, range(len(labels)), classes, where), names

    @cached_property
    def _captions(self) -> list[tuple[str, ...]] | None:
        """The captions of each sample."""
        if self.caption is None:
            return None
        stored = self._rows.select_columns([self.caption])[:].column(self.caption).to_pylist()
        found = [tuple(value) if isinstance(value, list) else (value,) for value in stored]
        for row, each in enumerate(found):
            if not each or not all(isinstance(text, str) for text in each):
                raise ValueError(
                    f"HuggingFace.path {self.path!r}, column {self.caption!r}: the caption of row {row} is {stored[row]!r}; allowed: a "
                    "text, or a list of texts"
                )
        return found

    def __len__(self) -> int:
        return len(self._rows)

    def texts(self, index: Tensor) -> Sequence[tuple[str, ...]] | None:
        """The captions of some samples; None without captions."""
        return None if self._captions is None else [self._captions[i] for i in index.tolist()]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._decoder.shape

    @property
    def num_classes(self) -> int:
        return self._labels[1]

    @property
    def bins(self) -> int:
        """Values that a number of the data can take, over [-1, 1]."""
        return 256

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, by label; empty where the data set does not say."""
        return self._labels[2]

    @cached_property
    def fingerprint(self) -> str:
        import pyarrow.compute as pc  # pyright: ignore[reportMissingImports]

        labels, classes, _ = self._labels
        found = hashlib.sha256(f"{self._decoder.words}\n{len(self)} {classes} {labels}\n".encode())
        if self._captions is not None:
            found.update(json.dumps(self._captions).encode())
        for first in range(0, len(self), _ROUND):
            column = self._images[first : first + _ROUND].column(self.image)
            stored = pc.struct_field(column, "bytes") if str(column.type).startswith("struct<") else column
            found.update(repr(pc.binary_length(stored).to_pylist()).encode())
        for place in range(min(_SAMPLED, len(self))):
            found.update(self._stored([place * len(self) // min(_SAMPLED, len(self))])[0][0] or b"")
        return found.hexdigest()[:16]

    def _stored(self, index: Sequence[int]) -> list[tuple[bytes | None, str]]:
        """The encoded images, and what they are called."""
        stored = self._images[list(index)].column(self.image).to_pylist()
        found = []
        for i, value in zip(index, stored, strict=True):
            value = value if isinstance(value, dict) else {"bytes": value}
            path = value.get("path")
            found.append((value["bytes"], f"row {i} of {self.path}" + (f" ({path})" if path else "")))
        return found

    def _read(self, stored: tuple[bytes | None, str]) -> Tensor:
        data, name = stored
        if data is None:
            raise ValueError(
                f"{name} can't be read as an image: its bytes are not stored with it; write it with save_to_disk"
            )
        return self._decoder.read(io.BytesIO(data), name)

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, found by decoding it and by its checksums; None where nothing is."""
        stored = self._stored([index])[0]
        try:
            self._read(stored)
            self._decoder.verify(io.BytesIO(stored[0] or b""), stored[1])
        except ValueError as error:
            return str(error)
        return None

    def batch(self, index: Tensor) -> Batch:
        labels, chosen = self._labels[0], index.tolist()
        with ThreadPoolExecutor(self.threads) as pool:
            x = torch.stack(list(pool.map(self._read, self._stored(chosen))))
        return Batch(x.float() / 127.5 - 1, torch.tensor([labels[i] for i in chosen]) if labels else None)

"""Training data in one array on the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .data import Batch
from .npy import gather, open_npy, read_labels, sampled_hash

__all__ = ["ArrayData"]


@dataclass(frozen=True)
class ArrayData:
    """Samples in a `.npy` file that is mapped, not read: uint8 pictures, or float16 or float32 numbers of any kind.

    uint8 becomes x in [-1, 1]; floats become (value - mean) * scale. The fingerprint is that of header, size and 4 MiB of content, evenly
    spread, so a change within a larger file may go unseen; labels are seen whole.

    Args:
        path: of the file: (N, C, ...) with any number of dimensions after the channels, as numpy.save writes it.
        labels: a `.npy` of N whole numbers; null: no classes.
        classes: above every label; null: one above the highest.
        mean: subtracted from floats, one number or one per channel.
        scale: floats are multiplied by it, likewise, finite and not 0.

    Raises:
        ValueError: for files that are missing, truncated or hold something else (Python objects are never read), labels out of range, and
            other values.
    """

    path: str
    labels: str | None = None
    classes: int | None = None
    mean: float | Sequence[float] = 0.0
    scale: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        shape, dtype = self._rows.shape, self._rows.dtype
        if len(shape) < 2:
            raise ValueError(f"ArrayData.path is {self.path!r}, of shape {shape}; allowed: (N, channels, ...)")
        if dtype == np.uint8 and len(shape) == 4 and shape[3] in (1, 3, 4) and min(shape[1:3]) > 4:
            raise ValueError(
                f"ArrayData.path is {self.path!r}, of shape {shape}, with the channels last; save array.transpose(0, 3, 1, 2)"
            )
        for name in ("mean", "scale"):
            self._check(name, shape[1], dtype)
        if self.labels is None and self.classes is not None:
            raise ValueError(f"ArrayData.classes is {self.classes} without labels; give labels, or null")
        _ = self._labels

    def _check(self, name: str, channels: int, dtype: np.dtype) -> None:
        value = getattr(self, name)
        many = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if many.shape not in ((1,), (channels,)) or not np.isfinite(many).all() or (name == "scale" and not many.all()):
            raise ValueError(
                f"ArrayData.{name} is {value}; allowed: a finite number{', not 0' * (name == 'scale')}, or one for each of "
                f"{channels} channels"
            )
        if dtype == np.uint8 and (many != (name == "scale")).any():
            raise ValueError(
                f"ArrayData.{name} is {value}, and {self.path!r} holds uint8, which becomes [-1, 1]; leave it out"
            )

    def __getstate__(self) -> dict[str, Any]:
        """Copied and sent to other processes as what was said, not as what is in the file."""
        return {f.name: self.__dict__[f.name] for f in fields(self)}

    @cached_property
    def _rows(self) -> np.memmap:
        return open_npy(Path(self.path), "ArrayData.path", ("uint8", "float16", "float32"))

    @cached_property
    def _labels(self) -> np.ndarray | None:
        if self.labels is None:
            return None
        return read_labels(Path(self.labels), "ArrayData.labels", len(self._rows), self.classes)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._rows.shape[1:]

    @property
    def num_classes(self) -> int:
        if self._labels is None:
            return 0
        return int(self._labels.max()) + 1 if self.classes is None else self.classes

    @property
    def bins(self) -> int | None:
        """Values that a number of the data can take, over [-1, 1]; None for floats."""
        return 256 if self._rows.dtype == np.uint8 else None

    @cached_property
    def fingerprint(self) -> str:
        parts = [sampled_hash(Path(self.path)), repr(np.ravel(self.mean).tolist()), repr(np.ravel(self.scale).tolist())]
        if self._labels is not None:
            parts += [str(self.num_classes), hashlib.sha256(self._labels.tobytes()).hexdigest()]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        x = torch.from_numpy(gather(self._rows, index)).float()
        if self._rows.dtype == np.uint8:
            x.div_(127.5).sub_(1)
        else:
            x = (x - self._column(self.mean)) * self._column(self.scale)
        labels = None if self._labels is None else torch.from_numpy(self._labels[index.cpu().numpy()])
        return Batch(x, labels)

    def _column(self, value: float | Sequence[float]) -> Tensor:
        return torch.tensor(value, dtype=torch.float32).view(-1, *[1] * (len(self.shape) - 1))

    def problem(self, index: int) -> str | None:
        """What is wrong with a sample, for a scan before training; None: nothing."""
        wrong = int((~np.isfinite(self._rows[index])).sum()) if self._rows.dtype != np.uint8 else 0
        return f"sample {index} of {self.path} holds {wrong} number(s) that are not finite" if wrong else None

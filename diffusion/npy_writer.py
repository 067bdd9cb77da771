"""A `.npy` file that is written row by row, and goes on after a kill."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

__all__ = ["NpyWriter"]


class NpyWriter:
    """Writes rows into a `.npy` file, which is complete once its last row is; an existing one of the same header is gone on with.

    By plain writes rather than through a map of the file: on a full disk those raise an error, where a map kills the process.

    Args:
        path: the file.
        dtype: of a number.
        shape: of the whole, rows first.
    """

    def __init__(self, path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._row = math.prod(shape[1:]) * dtype.itemsize
        self._dtype, self._shape = dtype, shape
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        self._file = path.open("r+b" if path.exists() else "w+b")
        before = self._file.read(256)
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)  # the same bytes, where it is there
        self._start = self._file.tell()
        self._file.flush()
        self._file.seek(0)
        same = self._file.read(self._start) == before[: self._start]
        if not same:
            self._file.truncate(self._start)
        self._there = os.fstat(self._file.fileno()).st_size if same else 0

    def __enter__(self) -> NpyWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._file.close()
        else:
            with suppress(OSError):  # what went wrong first is what is told
                self._file.close()

    def holds(self, rows: int) -> bool:
        """Whether the file, as it was found, reaches to so many rows."""
        return self._there >= self._start + rows * self._row

    def put(self, row: int, values: np.ndarray[Any, Any]) -> None:
        """Write rows from row `row` on."""
        assert values.dtype == self._dtype
        assert values.shape[1:] == self._shape[1:]
        self._file.seek(self._start + row * self._row)
        self._file.write(np.ascontiguousarray(values).tobytes())

    def sync(self) -> None:
        """Force what was written to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

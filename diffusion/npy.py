"""`.npy` files, mapped rather than read, and never unpickled."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

__all__ = ["gather", "open_npy", "read_labels", "sampled_hash"]

_BLOCK, _BLOCKS = 2**16, 64


def open_npy(path: Path, name: str, dtypes: Sequence[str]) -> np.memmap:
    """A `.npy` file as an array on the disk.

    Args:
        path: the file.
        name: of the option that names it, for messages.
        dtypes: that it may have, such as "uint8".

    Raises:
        ValueError: for a file that is missing, is no `.npy`, holds Python objects (they are not read) or another dtype, is not in C order,
            is empty, or has not the bytes that its header promises.
    """
    says = f"{name} is {str(path)!r}"
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
            else:
                raise ValueError(f"format version {version} holds no plain numbers")
            start = file.tell()
        size = path.stat().st_size
    except OSError as error:
        raise ValueError(
            f"{says}, which can't be read: {error.strerror or error}; give a file that numpy.save wrote"
        ) from error
    except ValueError as error:
        raise ValueError(f"{says}, which is not a .npy file: {error}; write it by numpy.save") from error
    if dtype.hasobject:
        raise ValueError(f"{says}, which holds Python objects, and these are never read; allowed: {', '.join(dtypes)}")
    if dtype not in [np.dtype(d) for d in dtypes]:
        raise ValueError(f"{says}, which holds {dtype.str} ({dtype}); allowed: {', '.join(dtypes)}; convert by .astype")
    if fortran:
        raise ValueError(f"{says}, which is in Fortran order; save numpy.ascontiguousarray of it")
    if not shape or not all(shape):
        raise ValueError(f"{says}, which is empty: its shape is {shape}; allowed: at least one sample")
    wanted = start + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != wanted:
        word = "truncated" if size < wanted else "longer than its header says"
        raise ValueError(f"{says}, which is {word}: {size} bytes instead of {wanted}; copy or write it again")
    return np.memmap(path, dtype, "r", start, shape)


def read_labels(path: Path, name: str, count: int, num_classes: int | None) -> np.ndarray:
    """The classes of the samples, int64 (count,).

    Args:
        path: a `.npy` of whole numbers.
        name: of the option that names it, for messages.
        count: of samples.
        num_classes: above every label; None: any.

    Raises:
        ValueError: for another file, another count, and labels out of range, naming the first.
    """
    kinds = ("int64", "int32", "int16", "int8", "uint8", "uint16", "uint32")
    labels = np.array(open_npy(path, name, kinds), dtype=np.int64)
    if labels.shape != (count,):
        raise ValueError(
            f"{name} is {str(path)!r}, of shape {labels.shape}; allowed: ({count},), one label for every sample"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= (2**31 if num_classes is None else num_classes)))
    if len(wrong):
        allowed = ">= 0" if num_classes is None else f"0 to {num_classes - 1}"
        raise ValueError(f"{name} is {str(path)!r}, whose label {wrong[0]} is {labels[wrong[0]]}; allowed: {allowed}")
    return labels


def gather(rows: np.ndarray, index: Tensor) -> np.ndarray:
    """The rows at some indices, int64 (B,), as a new array in their order.

    The disk is read in rising order, which is what makes one call for a batch many times faster than one per sample.
    """
    chosen = index.cpu().numpy()
    order = np.argsort(chosen, kind="stable")
    found = np.empty((len(chosen), *rows.shape[1:]), rows.dtype)
    found[order] = rows[chosen[order]]
    return found


def sampled_hash(path: Path) -> str:
    """SHA-256 of a file's size and of 64 blocks of 64 KiB, evenly spread from its first byte to its last.

    So a file of up to 4 MiB is seen whole; of a longer one, a change between the blocks that leaves the size is not.
    """
    size = path.stat().st_size
    found = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= _BLOCK * _BLOCKS:
            found.update(file.read())
        else:
            for i in range(_BLOCKS):
                file.seek((size - _BLOCK) * i // (_BLOCKS - 1))
                found.update(file.read(_BLOCK))
    return found.hexdigest()

"""Moments as .npz files, which pytorch-fid reads and writes, too."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..whole_file import sync, whole_file
from .frechet import Moments

__all__ = ["load_about", "load_moments", "save_moments"]

_FIX = "make the statistics again, or take those of pytorch-fid or of the fid.py of EDM (.npz with mu and sigma)"


def save_moments(path: str | Path, made: Moments, about: Mapping[str, Any]) -> None:
    """Write moments, whole or not at all: `mu` and `sigma` in float64, as pytorch-fid reads them, `count`, and `about` as JSON.

    Args:
        path: of the file, ends in .npz; its folder is made.
        made: what to write; a factor is left out, as the covariance has it.
        about: of what and by whom: extractor, its hash, resize, data; whatever JSON holds.

    Raises:
        ValueError: for another ending, and what JSON does not hold.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path is {str(path)!r}; allowed: a name that ends in .npz")
    try:
        text = json.dumps(dict(about), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"about holds what JSON can't ({error}); allowed: texts, finite numbers, lists, mappings"
        ) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    mu, sigma = (np.ascontiguousarray(x.double().cpu().numpy()) for x in (made.mean, made.covariance))
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            np.savez(file, mu=mu, sigma=sigma, count=np.int64(made.count), about=np.array(text))
        sync(temporary)


def load_moments(path: str | Path) -> Moments:
    """Read moments that `save_moments`, pytorch-fid or the fid.py of EDM wrote; nothing is unpickled.

    A file of another library does not say of how many pictures it was made: its `count` is 0, which means not known.

    Args:
        path: of a .npz file.

    Raises:
        ValueError: for a file that is damaged, holds something else, or is a pickle, with what to do.
    """
    held = _read(Path(path), ("mu", "sigma", "count"))
    mu, sigma, count = held["mu"], held["sigma"], held.get("count")
    d = mu.shape[0] if mu.ndim == 1 else 0
    if not d or sigma.shape != (d, d):
        raise ValueError(f"{path}: mu is {mu.shape} and sigma {sigma.shape}; allowed: (d,) and (d, d); {_FIX}")
    for name, values in (("mu", mu), ("sigma", sigma)):
        if not np.issubdtype(values.dtype, np.floating):
            raise ValueError(f"{path}: {name} is of {values.dtype}; allowed: floating numbers; {_FIX}")
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} holds numbers that are not finite; {_FIX}")
    mu, sigma = mu.astype(np.float64), sigma.astype(np.float64)
    variances = np.diagonal(sigma)
    size, rounding = np.sqrt(np.abs(variances)), 1e-9 * float(np.abs(variances).max())
    most = np.outer(size, size)
    uneven, beyond = np.abs(sigma - sigma.T) > 1e-5 * most + rounding, np.abs(sigma) > most + 1e4 * rounding
    if (variances < -rounding).any() or uneven.any() or beyond.any():
        raise ValueError(
            f"{path}: sigma is no covariance: it must be symmetric, with variances >= 0 and no correlation beyond 1; {_FIX}"
        )
    if count is not None and (count.shape != () or not np.issubdtype(count.dtype, np.integer) or int(count) < 0):
        raise ValueError(f"{path}: count is {count!r}; allowed: one whole number, >= 0; {_FIX}")
    return Moments(torch.from_numpy(mu), torch.from_numpy((sigma + sigma.T) / 2), 0 if count is None else int(count))


def load_about(path: str | Path) -> dict[str, Any]:
    """What `save_moments` was told of its moments; empty for a file of another library.

    Args:
        path: of a .npz file.

    Raises:
        ValueError: for a file that is damaged, or whose `about` is no JSON.
    """
    held = _read(Path(path), ("mu", "sigma", "about")).get("about")
    if held is None:
        return {}
    try:
        found = json.loads(str(held[()]))
    except (ValueError, IndexError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: about is no JSON mapping; {_FIX}")
    return found


def _read(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Those of the arrays that are there; the first two must be."""
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the .npz that `save_moments` or pytorch-fid wrote")
    if not zipfile.is_zipfile(path):  # numpy would try a lone array, and then a pickle
        kind = "a pickle" if path.suffix in (".pkl", ".pickle") else "no .npz file, or a damaged one"
        raise ValueError(
            f"{path} is {kind}; allowed: .npz with mu and sigma. Pickles run what they hold and are never opened: {_FIX}"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            found, held = file.files, {name: file[name] for name in names if name in file.files}
    except Exception as error:  # of zipfile, zlib or numpy, by which part is damaged
        raise ValueError(f"{path} is damaged or holds objects ({error}); {_FIX}") from error
    if missing := [name for name in names[:2] if name not in held]:
        raise ValueError(f"{path} has no {' and no '.join(missing)}, but {', '.join(found) or 'nothing'}; {_FIX}")
    return held

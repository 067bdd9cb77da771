"""Data sets of Hugging Face's `datasets` that lie in a folder."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["read_folder"]

_SPLITS = ("train", "test", "validation", "valid", "val", "dev", "eval")


def read_folder(datasets: Any, folder: Path, split: str) -> Any:
    """The data set in a folder, without asking the network.

    Args:
        datasets: the library.
        folder: written by `save_to_disk`, or of parquet files.
        split: which part of it.

    Raises:
        ValueError: for a folder that is neither, a split that is not there, and a file that is named outside the folder.
    """
    known = folder / "dataset_dict.json"
    if known.is_file():
        splits = json.loads(known.read_text())["splits"]
        if split not in splits:
            raise ValueError(f"it has no split {split!r}; allowed: {', '.join(splits)}")
        folder = folder / _plain(split, known)
    state = folder / "state.json"
    if state.is_file():
        files = json.loads(state.read_text())["_data_files"]
        if not files:
            raise ValueError("it holds no sample")
        for file in files:
            _plain(file["filename"], state)
        return datasets.load_from_disk(str(folder))
    return datasets.Dataset.from_parquet([str(p) for p in _parquet(folder, split)])


def _plain(name: str, file: Path) -> str:
    """A name that leads nowhere else."""
    if PurePosixPath(name).name != name:
        raise ValueError(f"{file.name} names {name!r}; allowed: what lies in its own folder")
    return name


def _parquet(folder: Path, split: str) -> list[Path]:
    """The parquet files named after a split (train-00000-of-00002.parquet, train/0.parquet); all, where none is named after any."""
    files = sorted(folder.rglob("*.parquet"))
    if not files:
        raise ValueError("it holds neither a saved data set (state.json) nor parquet files")

    def named(file: Path, name: str) -> bool:
        inner = file.relative_to(folder)
        return (
            name in inner.parts[:-1]
            or inner.stem == name
            or inner.stem.startswith((f"{name}-", f"{name}_", f"{name}."))
        )

    chosen = [file for file in files if named(file, split)]
    if not chosen and split == "train" and not any(named(file, name) for file in files for name in _SPLITS):
        chosen = files
    if not chosen:
        listed = ", ".join(str(file.relative_to(folder)) for file in files[:5])
        raise ValueError(f"no parquet file is named after the split {split!r}; there are {listed}")
    return chosen

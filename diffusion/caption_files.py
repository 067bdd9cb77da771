"""Captions of images from files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["read_captions"]


def read_captions(root: Path, where: str, names: Sequence[str]) -> list[tuple[str, ...]]:
    """The captions of each image, one or more.

    Args:
        root: the folder of the images.
        where: "txt": a text file beside each image, a.txt for a.png, with a caption per line. Or a file in the folder: .json,
            {"a.png": "a cat", "b.png": ["a dog", "some dog"]}; .jsonl, as Hugging Face's image folders have it, a line
            {"file_name": "a.png", "text": "a cat"} per image, or several for several captions.
        names: of the images, as paths from the folder with "/".

    Raises:
        ValueError: for another form, and an image without a caption, with its name.
    """
    if where == "txt":
        return [_beside(root, name) for name in names]
    path = root / where
    if path.suffix not in (".json", ".jsonl"):
        raise ValueError(f"captions is {where!r}; allowed: txt, or a file that ends in .json or .jsonl")
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _pairs(json.loads(text)) if path.suffix == ".json" else _lines(text)
    except OSError as error:
        raise ValueError(f"captions {str(path)!r} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise ValueError(f"captions {str(path)!r} can't be read: {type(error).__name__}: {error}") from error
    found: dict[str, list[str]] = {}
    for name, caption in pairs:
        found.setdefault(name, []).append(caption)
    lost = [name for name in names if name not in found]
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise ValueError(
            f"captions {str(path)!r} has none for {', '.join(map(repr, lost[:3]))}{more}; add them, or move the images away"
        )
    return [tuple(found[name]) for name in names]


def _beside(root: Path, name: str) -> tuple[str, ...]:
    path = root / f"{os.path.splitext(name)[0]}.txt"
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"the caption of {name!r} can't be read: {error}; put it into {path.name}, as UTF-8"
        ) from error
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        raise ValueError(f"the caption of {name!r} in {path} is empty; write one, or move the image away")
    return captions


def _pairs(known: Any) -> Iterable[tuple[str, str]]:
    if not isinstance(known, dict):
        raise ValueError('it holds no object; allowed: {"a.png": "a cat", ...}')
    return [(_plain(name), caption) for name, value in known.items() for caption in _texts(name, value)]


def _lines(text: str) -> Iterable[tuple[str, str]]:
    each = [
        json.loads(line) for line in text.split("\n") if line.strip()
    ]  # splitlines would part at signs within a text
    return [
        (_plain(line["file_name"]), caption) for line in each for caption in _texts(line["file_name"], line["text"])
    ]


def _plain(name: Any) -> str:
    """A path as it is written: "./a.png" and Windows' "a\\\\b.png" mean the same."""
    if not isinstance(name, str):
        raise ValueError(f"file_name is {json.dumps(name)[:80]}; allowed: a path")
    return "/".join(part for part in name.replace("\\", "/").split("/") if part != ".")


def _texts(name: str, value: Any) -> list[str]:
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(text, str) for text in listed):
        raise ValueError(f"the caption of {name!r} is {json.dumps(value)[:80]}; allowed: a text, or a list of texts")
    return listed

"""Labels of images from a JSON file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["check_range", "read_labels"]


def read_labels(file: Path, names: Sequence[str], classes: int | None = None) -> tuple[list[int], int]:
    """The label of each image, and the number of classes.

    Args:
        file: JSON; {"labels": [["00000/img.png", 3], ...]} as StyleGAN and EDM write it, {"labels": null} for no classes, or plainly
            {"00000/img.png": 3}.
        names: of the images, as paths from their folder with "/".
        classes: labels are below it; None: one more than the largest.

    Returns:
        Labels in the order of names, and the number of classes; with 0 classes there are none.

    Raises:
        ValueError: for another form, a label out of range, an image without one, and a label without an image, each with its name.
    """
    try:
        known = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except OSError as error:
        raise ValueError(f"labels {str(file)!r} can't be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"labels {str(file)!r} can't be read as JSON: {error}") from error
    pairs = _pairs(known, file)
    if pairs is None:
        if classes:
            raise ValueError(
                f"labels {str(file)!r} says that there are none, and classes is {classes}; leave classes out"
            )
        return [], 0
    found: dict[str, int] = {}
    for name, label in pairs:
        if name in found:
            raise ValueError(f"labels {str(file)!r} names {name!r} twice; allowed: one label per image")
        found[name] = label
    here = set(names)
    _refuse([n for n in found if n not in here], file, "has a label for {}, which is no image of the folder; remove it")
    _refuse([n for n in names if n not in found], file, "has no label for {}; add it, or move the image away")
    labels = [found[name] for name in names]
    return labels, check_range(labels, names, classes, f"labels {str(file)!r}")


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with every key that was written, also one that was written twice."""


def _pairs(known: Any, file: Path) -> list[tuple[str, Any]] | None:
    if not isinstance(known, _Pairs):
        raise ValueError(
            f'labels {str(file)!r} holds no object; allowed: {{"labels": [[name, label], ...]}}, or {{name: label}}'
        )
    if "labels" in (whole := dict(known)) and not isinstance(whole["labels"], int):
        listed = whole["labels"]
        if listed is None:
            return None
        if not isinstance(listed, list) or isinstance(listed, _Pairs):
            raise ValueError(f'labels {str(file)!r}: "labels" is no list; allowed: a list of [name, label], or null')
        for entry in listed:
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                raise ValueError(f"labels {str(file)!r} holds {json.dumps(entry)[:80]}; allowed: [name, label]")
        known = listed
    # "./a.png" and Windows' "a\\b.png" are written too
    return [("/".join(p for p in name.replace("\\", "/").split("/") if p != "."), label) for name, label in known]


def _refuse(names: Sequence[str], file: Path, message: str) -> None:
    if names:
        some = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ValueError(f"labels {str(file)!r} {message.format(some)}")


def check_range(labels: Sequence[Any], names: Iterable[object], classes: int | None, where: str) -> int:
    """The number of classes, once every label is known to be one.

    Args:
        labels: what was read, of any type.
        names: of the samples, in the same order, for messages.
        classes: labels are below it; None: one more than the largest.
        where: they were read, for messages.

    Raises:
        ValueError: with sample, label and range.
    """
    limit = "whole numbers from 0" if classes is None else f"0 to {classes - 1}"
    for name, label in zip(names, labels, strict=True):
        if (
            not isinstance(label, int)
            or isinstance(label, bool)
            or label < 0
            or (classes is not None and label >= classes)
        ):
            raise ValueError(f"{where}: the label of {name!r} is {json.dumps(label, default=str)}; allowed: {limit}")
    return classes if classes is not None else max(labels, default=-1) + 1

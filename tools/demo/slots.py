"""Which pictures: the seed and the class of each, as a visitor writes them."""

from __future__ import annotations

import re
import secrets

from ..sample import numbers
from .limits import Limits
from .menus import EACH, NONE

__all__ = ["labels_of", "seeds_of"]

_SEEDS = 2**63


def seeds_of(said: str, count: int, limits: Limits) -> tuple[int, ...]:
    """The seed of each picture.

    Args:
        said: "random" or -1, one number, from which the others follow, or several.
        count: of pictures.
        limits: of the server.

    Raises:
        ValueError: for what is none of these, and for seeds of 2^63 and more.
    """
    if said.lower() in ("", "random", "-1"):
        first = secrets.randbelow(2**31)
        return tuple(range(first, first + count))
    if re.fullmatch(r"[0-9]{1,30}", said):
        first = int(said)
        if first + count > _SEEDS:
            raise ValueError(f"seed is {said}; allowed: whole numbers from 0 to 2^63 - {count}")
        return tuple(range(first, first + count))
    found = numbers(said, "seed")
    if len(found) > limits.pictures or any(seed >= _SEEDS for seed in found):
        raise ValueError(f"seed says {len(found)} numbers; allowed: at most {limits.pictures}, each below 2^63")
    return tuple(found)


def labels_of(said: str, count: int, classes: int, name: str) -> list[int | None]:
    """The class of each picture; fewer than pictures are repeated in turn.

    Args:
        said: "each in turn", "none", or classes such as "3", "0-9" and "0, none, 3".
        count: of pictures.
        classes: of the model.
        name: of the field, for messages.

    Raises:
        ValueError: for what is none of these.
    """
    if said.lower() in ("", EACH):
        return [i % classes for i in range(count)]
    given: list[int | None] = []
    for piece in said.split(","):
        if piece.strip().lower() in (NONE, "null", "no class"):
            given.append(None)
            continue
        if not re.fullmatch(r"\s*[0-9]{1,9}\s*(-\s*[0-9]{1,9}\s*)?", piece):
            raise ValueError(f"{name} is {said!r}; allowed: 0 to {classes - 1}, such as 3 or 0-9 or 3,5,9, or none")
        found = numbers(piece.replace(" ", ""), name)
        wrong = [label for label in found if label >= classes]
        if wrong:
            raise ValueError(f"{name} is {wrong[0]}; allowed: 0 to {classes - 1}, such as 3 or 0-9 or 3,5,9, or none")
        given += found
    return [given[i % len(given)] for i in range(count)]

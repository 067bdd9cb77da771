"""An axis of a comparison: which keys it moves, and where to."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...guidance import Guidance
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid
from ..sample import numbers
from ..spelling import UsageError, did_you_mean
from .syntax import cut, part_tree, ranged, unquoted

__all__ = ["PARTS", "Axis", "parse_axes"]

PARTS: dict[str, type] = {"sampler": Sampler, "grid": Grid, "guidance": Guidance, "filters": Filter}
_PLAIN = ("steps", "interval", "seed", "label", "prompt", "checkpoint", "ema", "weak", "weak_step")
# words for the same thing, as they are used elsewhere
_ALSO = {
    "eta": "sampler.eta", "scale": "guidance.scale", "filter": "filters", "labels": "label", "prompts": "prompt", "seeds": "seed",
    "low": "guidance.low", "high": "guidance.high", "threshold": "filters.threshold", "step": "checkpoint", "spacing": "grid",
}  # fmt: skip
_TEXTS = ("prompt", "weak")


@dataclass(frozen=True)
class Axis:
    """The rows, or the columns, of a comparison.

    keys: what moves along it: sampler, grid, steps, guidance, filters, an argument of one of these such as sampler.eta, interval, seed,
    label, prompt, also.NAME, checkpoint, ema, weak, weak_step; several move together. values: per place one value per key, as plain data.
    labels: per place how it was written.
    """

    keys: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """How it is called in a table."""
        return " + ".join(self.keys)

    def __len__(self) -> int:
        return len(self.values)


NONE = Axis((), ((),), ("",))
"""An axis that nothing moves along."""


def parse_axes(x: str, y: str | None, allow: Sequence[str] = ()) -> tuple[Axis, Axis]:
    """The columns and the rows of a comparison.

    Args:
        x: KEY=VALUE,VALUE,... of the columns: values are separated by commas that are in no brackets or quotes; FIRST..LAST and
            FIRST..LAST..STEP stand for numbers, ends included; a part has its arguments as in Python, DDIM(eta=1). KEY+KEY=A:1,B:2
            moves several keys together.
        y: likewise of the rows; None: one row.
        allow: packages beside Sfumato whose classes may be named.

    Raises:
        UsageError: with every problem found: unknown keys and parts with the nearest spelling, values that are none, repeated ones, and a
            key on both axes.
    """
    problems: list[str] = []
    found = [NONE if text is None else _axis(text, name, allow, problems) for name, text in (("x", x), ("y", y))]
    if not problems:
        problems += [f"{key} is on both axes; leave it on one" for key in found[0].keys if key in found[1].keys]
    if problems:
        raise UsageError(problems)
    return found[0], found[1]


def _axis(text: str, name: str, allow: Sequence[str], problems: list[str]) -> Axis:
    keys, equals, rest = text.partition("=")
    if not equals or not rest.strip() or not keys.strip():
        problems.append(
            f"{name} is {text!r}; allowed: KEY=VALUE,VALUE,..., such as sampler=DDIM,GHVB or steps=4..32..4"
        )
        return NONE
    try:
        moved = tuple(_key(key.strip(), name) for key in keys.split("+"))
        if len(set(moved)) < len(moved):
            raise ValueError(f"{name} is {text!r}: a key is there twice")
        pieces = cut(rest, ",", name)
        if len(moved) == 1 and moved[0] not in _TEXTS:
            pieces = [value for piece in pieces for value in ranged(piece, name)]
        twice = next((piece for i, piece in enumerate(pieces) if piece in pieces[:i]), None)
        if twice is not None:
            raise ValueError(f"{name}: {twice} is there twice")
    except ValueError as error:
        problems.append(str(error))
        return NONE
    values: list[tuple[Any, ...]] = []
    for piece in pieces:
        try:
            values.append(_values(piece, moved, name, allow))
        except ValueError as error:
            problems.append(str(error))
    labels = tuple(unquoted(piece) if moved == ("prompt",) else piece for piece in pieces)
    return Axis(moved, tuple(values), labels)


def _key(given: str, name: str) -> str:
    """The key that a word means.

    Raises:
        ValueError: with the nearest spelling.
    """
    said = given.replace("-", "_")
    key = _ALSO.get(said, said)
    first, dot, rest = key.partition(".")
    first = _ALSO.get(first, first)
    known = [*PARTS, *_PLAIN]
    if dot and first in (*PARTS, "also") and all(re.fullmatch(r"\w+", word) for word in rest.split(".")):
        return f"{first}.{rest.replace('init_args.', '')}"
    if key in known:
        return key
    raise ValueError(
        f"{name}: {given} is no axis; allowed: {', '.join(known)}, and arguments such as sampler.eta, guidance.scale, filters.threshold, "
        f"also.negative{did_you_mean(said, [*known, *_ALSO])}"
    )


def _values(piece: str, keys: Sequence[str], name: str, allow: Sequence[str]) -> tuple[Any, ...]:
    """One place of an axis: a value per key."""
    words = [piece] if len(keys) == 1 and keys[0] != "interval" else cut_pair(piece, keys, name)
    return tuple(_value(word, key, name, allow) for word, key in zip(words, keys, strict=True))


def cut_pair(piece: str, keys: Sequence[str], name: str) -> list[str]:
    """ "DDIM:20" for two keys is ["DDIM", "20"]; an interval has a colon of its own.

    Args:
        piece: the text of one place.
        keys: that move together.
        name: of the option, for messages.

    Raises:
        ValueError: for too few or too many.
    """
    words = cut(re.sub(r":(?=$)", ":null", re.sub(r"^:", "null:", piece)), ":", name)
    found: list[str] = []
    for key in keys:
        many = 2 if key == "interval" and words and words[0].lower() != "none" else 1
        found.append(":".join(words[:many]))
        words = words[many:]
        if not found[-1]:
            break
    if words or len(found) < len(keys) or not all(found):
        pattern = ":".join("LOW:HIGH" if key == "interval" else key.upper() for key in keys)
        raise ValueError(
            f"{name} is {piece!r}; allowed: {pattern}{', or none' if keys == ('interval',) else ''}, for {' + '.join(keys)}"
        )
    return found


def _value(text: str, key: str, name: str, allow: Sequence[str]) -> Any:
    """One value as plain data.

    Raises:
        ValueError: naming the option and what is allowed.
    """
    if key in ("sampler", "grid", "guidance"):
        return part_tree(text, PARTS[key], allow, f"{name}: {key}")
    if key == "filters":
        if text.lower() == "none":
            return []
        inner = text[1:-1] if text[0] == "[" and text[-1] == "]" else text
        return [part_tree(each, Filter, allow, f"{name}: {key}") for each in cut(inner, ",", name)]
    read = _READ.get(key)
    if read is None:  # an argument of a part: its type is known where the part is
        return text
    try:
        return read(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {key} is {text!r}; allowed: {_ALLOWED[key]}") from error


def _whole(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(text)
    return int(text)


def _seed(text: str) -> int:
    if _whole(text) >= 2**63:
        raise ValueError(text)
    return int(text)


def _interval(text: str) -> tuple[float | None, float | None] | None:
    if text.lower() == "none":
        return None
    low, _, high = text.partition(":")
    found = tuple(None if end == "null" else float(end) for end in (low, high))
    if any(end is not None and not end >= 0 for end in found):
        raise ValueError(text)
    return found[0], found[1]


def _labels(text: str) -> str:
    if text.lower() not in ("none", "null"):
        numbers(text, "label")
    return text.lower()


def _ema(text: str) -> bool | float:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not 0 < float(text) <= 0.3:
        raise ValueError(text)
    return float(text)


def _steps(text: str) -> int:
    if not 1 <= _whole(text) <= 100_000:
        raise ValueError(text)
    return int(text)


_READ: dict[str, Callable[[str], Any]] = {
    "steps": _steps, "interval": _interval, "seed": _seed, "label": _labels, "prompt": unquoted, "ema": _ema, "weak": unquoted,
    "checkpoint": lambda text: None if text.lower() in ("newest", "null") else _whole(text),
    "weak_step": lambda text: None if text.lower() in ("newest", "null") else _whole(text),
}  # fmt: skip
_ALLOWED = {
    "steps": "whole numbers from 1 to 100000", "interval": "LOW:HIGH in sigma / alpha, 0 <= LOW <= HIGH, an end may be left out; or none",
    "seed": "whole numbers in [0, 2^63)", "label": "a class, several in turn (0-9), or none", "checkpoint": "a step of the run, or newest",
    "weak_step": "a step of the run, or newest", "ema": "true, false, or a length above 0 to 0.3", "prompt": "a text", "weak": "a run",
}  # fmt: skip

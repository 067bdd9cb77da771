"""Rules within rules: found wherever they are nested, and as one picture sees them."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["for_picture", "for_pictures", "rules_within"]

T = TypeVar("T")

# how a rule declares a number that may be one per picture, see Ask.each; None may stand beside them
PER_PICTURE = {float, Sequence[float]}


def rules_within(part: object, kind: type[T]) -> Iterator[tuple[T, tuple[object, ...]]]:
    """Every part of a kind in a rule (or in a sampler that holds one), each with the parts around it, outermost first.

    Args:
        part: a dataclass; anything else holds nothing.
        kind: the class that is looked for.
    """
    if isinstance(part, kind):
        yield part, ()
    for inner in _values(part):
        for found, around in rules_within(inner, kind):
            yield found, (part, *around)


def _values(part: object) -> Iterator[object]:
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        yield from (getattr(part, f.name) for f in dataclasses.fields(part))
    elif isinstance(part, Mapping):
        yield from part.values()
    elif isinstance(part, tuple | list):
        yield from part


def for_picture(part: T, i: int) -> T:
    """A rule (or a sampler that holds one) as picture i sees it: of what is declared `float | Sequence[float]`, its own number.

    Args:
        part: the same object comes back where nothing is per picture.
        i: which picture.
    """
    return _with_own(part, lambda numbers: numbers[i])


def for_pictures(part: T, index: Sequence[int]) -> T:
    """A rule (or a sampler that holds one) as some of the pictures see it: of what is one number per picture, theirs.

    Args:
        part: the same object comes back where nothing is per picture.
        index: which pictures; those that are left are numbered in this order.
    """
    return _with_own(part, lambda numbers: [numbers[i] for i in index])


def _with_own(part: T, own_of: Callable[[Sequence[float]], float | Sequence[float]]) -> T:
    if not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    try:
        hints = typing.get_type_hints(type(part))
    except NameError:  # names that exist for a type checker only
        hints = {}
    changed: dict[str, Any] = {}
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        own = value
        if set(typing.get_args(hints.get(f.name))) - {type(None)} == PER_PICTURE:
            own = own_of(value) if isinstance(value, Sequence) else value
        elif dataclasses.is_dataclass(value):
            own = _with_own(value, own_of)
        if own is not value and f.init:
            changed[f.name] = own
    return dataclasses.replace(part, **changed) if changed else part

"""What the arguments of a foreign class may be, as far as a config can say it."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch

from ..schedules.library import arguments_of

__all__ = ["hints_of"]

_SCALARS = (bool, int, float, str, NoneType)
# an argument that says nothing of itself
_ANYTHING = int | float | bool | list[float] | str | None


def hints_of(cls: type[torch.optim.Optimizer]) -> dict[str, Any]:
    """The type of each argument that a config can hold: as annotated, or else as its default is."""
    try:
        annotated = typing.get_type_hints(cls.__init__)
    except Exception:  # names that are there for a type checker only
        annotated = {}
    found: dict[str, Any] = {}
    for name, parameter in arguments_of(cls).items():
        hint = _plain(annotated.get(name))
        hint = _of(parameter.default) if hint is None else hint
        if hint is not None:
            found[name] = hint
    return found


def _plain(hint: Any) -> Any:
    """A hint without what no config can hold, or None when nothing is left."""
    if hint in (Any, None):
        return None
    if hint in _SCALARS:
        return hint
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return hint
    if origin in (Union, UnionType):
        kept = [p for p in map(_plain, args) if p is not None]
        return Union[tuple(kept)] if set(kept) - {NoneType} else None  # noqa: UP007 - of a list made here
    if isinstance(origin, type) and issubclass(origin, Sequence):
        kept = [a if a is ... else _plain(a) for a in args]
        sequence: Any = origin
        return None if not kept or None in kept else sequence[tuple(kept)]
    return None


def _of(default: Any) -> Any:
    """The type of what a default stands for; None for an object that no config can hold."""
    if default is None or default is inspect.Parameter.empty:
        return _ANYTHING
    if isinstance(default, bool | str):
        return type(default)
    if isinstance(default, int | float):
        return int | float
    if isinstance(default, list | tuple):
        kinds = [_of(v) for v in default]
        return None if None in kinds else list[Union[tuple(kinds)]] if kinds else list[float]  # noqa: UP007
    return None

"""A part's description, of any origin, as the text that a visitor would have written for it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ...schedules.parts import class_path, describe
from ..parts import choices, part_of, part_type
from ..resolve import fields_of

__all__ = ["part_text"]

_WORD = re.compile(r"[A-Za-z_][\w ]{0,60}")


def part_text(spec: Any, kind: type) -> str:
    """A text that `form.part` reads: "HeavyBall(base=DPMSolverPP, beta=0.9)"; nothing is imported, and no object is made.

    Args:
        spec: {class_path, init_args}, perhaps from a stranger.
        kind: what it must be.

    Raises:
        ValueError: for a class that is none of Sfumato's of that kind, and values that no form could hold.
    """
    path = spec.get("class_path") if isinstance(spec, Mapping) else None
    name = path.rpartition(".")[2] if isinstance(path, str) else ""
    known = choices(kind).get(name)
    if known is None or class_path(known) != path:
        raise ValueError(f"{str(path)[:80]!r} is no {kind.__name__} of Sfumato")
    fields, given = fields_of(known), spec.get("init_args") or {}
    if not isinstance(given, Mapping):
        raise ValueError(f"the arguments of {name} are no names with values")
    written: list[str] = []
    for key, value in given.items():
        if key not in fields:
            raise ValueError(f"{name} has no argument {str(key)[:40]!r}")
        if value != _default(fields[key].default):
            written.append(f"{key}={_value(value, fields[key].hint)}")
    return name + (f"({', '.join(written)})" if written else "")


def _default(default: Any) -> Any:
    try:
        return describe(default)
    except ValueError:  # what must be given has none
        return object()


def _value(value: Any, hint: Any) -> str:
    wanted, elements = part_type(hint), part_of(hint)
    if wanted is not None and value is not None:
        return part_text(value, wanted)
    if elements is not None and isinstance(value, list | tuple):
        return "[" + ", ".join(part_text(each, elements) for each in value) + "]"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_plain(each, True) for each in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_plain(str(key), True)}: {_plain(each, True)}" for key, each in value.items()) + "}"
    return _plain(value, False)


def _plain(value: Any, yaml: bool) -> str:
    """A number, word, truth value or nothing; `yaml`: within a list, where numbers are read by other rules."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and yaml:
        if not math.isfinite(value):
            return "-.inf" if value < 0 else ".inf"
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str) and _WORD.fullmatch(value):
        return value
    raise ValueError(f"{str(value)[:40]!r} is no value that a form holds")

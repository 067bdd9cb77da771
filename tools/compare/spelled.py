"""Options, and parts, as one would write them on the command line: what `parse` reads is what was meant."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...schedules.parts import describe, find_class
from ..command import parse
from ..parts import part_of, part_type
from ..resolve import fields_of
from ..sample import own_parts
from .options import Compare

__all__ = ["argv_of", "spelled"]


def spelled(tree: Any, allow: Sequence[str] = ()) -> str:
    """A part as it is written on an axis, to the last digit: its name, and the arguments that are not its defaults.

    Args:
        tree: its description.
        allow: packages beside Sfumato whose classes may be named.
    """
    if isinstance(tree, Mapping) and "class_path" in tree:
        own = [f"{key}={spelled(value, allow)}" for key, value in _given(tree, allow).items()]
        return _name(tree) + (f"({', '.join(own)})" if own else "")
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(spelled(each, allow) for each in tree) + "]"
    if isinstance(tree, str):
        plain = tree and not any(sign in tree for sign in "()[]{},:'\"") and tree == tree.strip()
        return tree if plain and tree != "null" else f'"{tree}"' if '"' not in tree else f"'{tree}'"
    return _word(tree)


def argv_of(options: Compare) -> list[str]:
    """The words after `sfumato compare` that say options.

    Args:
        options: of the command.

    Raises:
        ValueError: for what no words say, such as the text "null".
    """
    words = [options.run]
    defaults = {f.name: f.default for f in dataclasses.fields(Compare) if f.default is not dataclasses.MISSING}
    defaults |= {"allow": []}
    for name, field in fields_of(Compare).items():
        value = getattr(options, name)
        if name == "run" or (name in defaults and value == defaults[name]):
            continue
        if part_of(field.hint) or name == "allow":
            for each in value:
                words += [f"--{name}", each] if isinstance(each, str) else _part(describe(each), name, options.allow)
        elif part_type(field.hint):
            words += _part(describe(value), name, options.allow)
        elif isinstance(value, Mapping):
            words += [f"--{name}", json.dumps(value, ensure_ascii=False)]
        else:
            if value is True:
                words.append(f"--{name}")
                continue
            said = value if isinstance(value, str) else _word(value)
            words += [f"--{name}={said}"] if said.startswith("--") else [f"--{name}", said]
    read, _ = parse(words, Compare, ("run",), base=own_parts)
    for f in dataclasses.fields(Compare):
        meant, found = (_alike(getattr(each, f.name)) for each in (options, read))
        if meant != found:
            raise ValueError(f"{f.name} is {meant!r}, which no words of a command line say")
    return words


def _alike(value: Any) -> Any:
    """Lists and tuples are the same thing here."""
    return list(value) if isinstance(value, list | tuple) else value


def _part(tree: Mapping[str, Any], at: str, allow: Sequence[str]) -> list[str]:
    """A part, and its arguments by dotted keys."""
    words = [f"--{at}", _name(tree)]
    for key, value in _given(tree, allow).items():
        if isinstance(value, Mapping) and "class_path" in value:
            words += _part(value, f"{at}.{key}", allow)
        elif isinstance(value, Mapping | list | tuple):
            words += [f"--{at}.{key}", json.dumps(value, ensure_ascii=False)]
        else:
            words += [f"--{at}.{key}", value if isinstance(value, str) else _word(value)]
    return words


def _name(tree: Mapping[str, Any]) -> str:
    path: str = tree["class_path"]
    return path.rpartition(".")[2] if path.startswith("sfumato.") else path


def _given(tree: Mapping[str, Any], allow: Sequence[str]) -> dict[str, Any]:
    """The arguments of a part that are not its defaults."""
    fields = fields_of(find_class(tree["class_path"], allow))
    found: dict[str, Any] = {}
    for key, value in (tree.get("init_args") or {}).items():
        default = fields[key].default if key in fields else inspect.Parameter.empty
        if default is inspect.Parameter.empty or describe(default) != value:
            found[key] = value
    return found


def _word(value: Any) -> str:
    """A plain value; numbers to the last digit."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)

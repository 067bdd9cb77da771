"""From a tree of plain values to one that is complete and checked: short names become class paths, defaults are filled in."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import torch
from docstring_parser import parse as parse_docstring
from jsonargparse import ArgumentError, ArgumentParser
from torch import nn

from ..schedules.library import arguments_of
from ..schedules.parts import build, class_path, class_paths, describe
from .hints import hints_of
from .parts import choices, part_of, part_type, resolve_class
from .spelling import UsageError, did_you_mean

__all__ = ["fields_of", "resolve"]


class Field(typing.NamedTuple):
    """One argument of a class: its type hint, and its default (inspect.Parameter.empty when it must be given)."""

    hint: Any
    default: Any


def fields_of(cls: type) -> dict[str, Field]:
    """The arguments of a class, from its signature; of an optimizer those that a config may say."""
    if issubclass(cls, torch.optim.Optimizer):
        hints = hints_of(cls)
        defaults = {name: p.default for name, p in arguments_of(cls).items() if name in hints}
        return {name: Field(hints[name], _as_read(default, hints[name])) for name, default in defaults.items()}
    hints = typing.get_type_hints(cls.__init__)
    factories = {f.name: f.default_factory for f in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else {}
    found: dict[str, Field] = {}
    for name, parameter in list(inspect.signature(cls).parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):  # of a module that has no __init__
            continue
        factory = factories.get(name, dataclasses.MISSING)
        default = factory() if factory is not dataclasses.MISSING else parameter.default
        found[name] = Field(hints.get(name, Any), default)
    return found


def _says(hint: Any) -> str:
    """A type hint in a user's words."""
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if hint in words:
        return words[hint]
    args = [a for a in get_args(hint) if a is not type(None)]
    if get_origin(hint) in (typing.Union, UnionType):
        kinds = [_says(a) for a in args] + (["null"] if type(None) in get_args(hint) else [])
        return ", or ".join(kinds)
    if _is_mapping(hint):
        return "names with values, such as {negative: 3}"
    if get_origin(hint) is tuple and Ellipsis not in args:
        return f"a list of {len(args)} {_says(args[0]).removeprefix('a ')}s"
    if get_origin(hint) is not None and args:
        return f"a list of {_says(args[0]).removeprefix('a ')}s, such as [1, 2]"
    return str(getattr(hint, "__name__", hint))


def _is_mapping(hint: Any) -> bool:
    """Whether a field wants names with values, such as Mix.weights."""
    if get_origin(hint) in (typing.Union, UnionType):
        return any(_is_mapping(a) for a in get_args(hint))
    origin = get_origin(hint) or hint
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _names(value: Any) -> Any:
    """Names with values, of which some were set by dotted keys, which reads like the arguments of a part."""
    if isinstance(value, Mapping) and isinstance(value.get("init_args"), Mapping):
        return {k: v for k, v in value.items() if k != "init_args"} | dict(value["init_args"])
    return value


def _plain(value: Any, hint: Any, at: str) -> Any:
    """A plain value of the hinted type.

    Raises:
        ValueError: naming the key, the value and what is allowed.
    """
    optional = hint is Any or type(None) in get_args(hint)
    if value == "":
        raise ValueError(f"{at} is empty; allowed: {_says(hint)}")
    if isinstance(value, str) and value in ("inf", "-inf") and (hint is float or float in get_args(hint)):
        return float(value)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        if value is None and not optional:
            raise ArgumentError(None, "null")
        parsed = parser.parse_object({"value": value})["value"]
    except ArgumentError:
        raise ValueError(f"{at} is {value!r}; allowed: {_says(hint)}") from None
    if isinstance(parsed, float) and math.isnan(parsed):
        raise ValueError(f"{at} is nan; allowed: {_says(hint)}")
    return list(parsed) if isinstance(parsed, tuple) else parsed


def _as_read(default: Any, hint: Any) -> Any:
    """A default as it comes back from YAML: 0 where a number is meant is 0.0, so that a printed config prints the same again."""
    try:
        return default if default is inspect.Parameter.empty else _plain(describe(default), hint, "")
    except ValueError:
        return default


def resolve(
    values: Mapping[str, Any], cls: type, allow: Sequence[str] = (), also: Sequence[str] = ()
) -> dict[str, Any]:
    """Check values against the signature of a class, parts within parts included.

    Args:
        values: key -> plain value; a part is a name, or a mapping with class_path and init_args.
        cls: whose arguments they are.
        allow: packages beside Sfumato that class paths may name.
        also: further words for the nearest spelling of an unknown key.

    Returns:
        Every argument of cls, parts as {class_path, init_args} with their own defaults filled in.

    Raises:
        UsageError: with every problem found, one line each.
    """
    problems: list[str] = []
    resolved = _arguments(values, cls, allow, "", problems, also)
    if problems:
        raise UsageError(problems)
    return resolved


def _named(value: Any, default: Any) -> Any:
    """A part of which only arguments are given, as the default part with those arguments, where there is one."""
    if not isinstance(value, Mapping) or "class_path" in value or not isinstance(value.get("init_args"), Mapping):
        return value
    own = describe(default) if dataclasses.is_dataclass(default) and not isinstance(default, type) else None
    if own is None:
        return value
    return {"class_path": own["class_path"], "init_args": {**own.get("init_args", {}), **value["init_args"]}}


def _arguments(
    values: Mapping[str, Any], cls: type, allow: Sequence[str], at: str, problems: list[str], also: Sequence[str] = ()
) -> dict[str, Any]:
    fields = fields_of(cls)
    prefix = f"{at}." if at else ""
    for key in values:
        if key == "lr" and issubclass(cls, torch.optim.Optimizer):
            problems.append(f"{prefix}lr: the learning rate is the recipe's; set lr")
        elif key not in fields:
            hint = did_you_mean(str(key), [*fields, *also])
            takes = ", ".join(fields) if at else "see --help"
            problems.append(
                f"{prefix}{key}: unknown key{f' of {cls.__name__}' if at else ''}; allowed: {takes or 'none'}{hint}"
            )
    resolved: dict[str, Any] = {}
    about = {p.arg_name: p.description or "" for p in parse_docstring(inspect.getdoc(cls) or "").params}
    for name, (hint, default) in fields.items():
        here = f"{prefix}{name}"
        if name not in values:
            if default is inspect.Parameter.empty:
                wanted = part_type(hint)
                names = f" One of {', '.join(choices(wanted))}." if wanted else ""
                problems.append(f"{here}: missing; {about.get(name, _says(hint))}{names}")
            else:
                resolved[name] = describe(default)
            continue
        if default == "" and values[name] == "":
            resolved[name] = ""
            continue
        try:
            resolved[name] = _value(_named(values[name], default), hint, allow, here, problems)
        except ValueError as error:
            problems.append(str(error))
    return resolved


def _value(value: Any, hint: Any, allow: Sequence[str], at: str, problems: list[str]) -> Any:
    wanted, elements = part_type(hint), part_of(hint)
    if elements is not None:
        many = value if isinstance(value, list | tuple) else [value]
        return [_part(v, elements, allow, f"{at}[{i}]", problems) for i, v in enumerate(many)]
    if wanted is None:
        if class_paths(value):  # never left to jsonargparse, which would import whatever it says
            kind = next((a for a in (hint, *get_args(hint)) if dataclasses.is_dataclass(a)), None)
            if not isinstance(kind, type) or not isinstance(value, Mapping) or "class_path" not in value:
                raise ValueError(f"{at} names a class; allowed: {_says(hint)}")
            return _part(value, kind, allow, at, problems)
        return _plain(_names(value) if _is_mapping(hint) else value, hint, at)
    if value is None or value == "null":
        if type(None) in get_args(hint):
            return None
        raise ValueError(f"{at} is null; give a {wanted.__name__}")
    return _part(value, wanted, allow, at, problems)


def _part(value: Any, wanted: type, allow: Sequence[str], at: str, problems: list[str]) -> Any:
    """A part, resolved; one that can be made cheaply is made, so that its own refusal is found with the rest."""
    spec: Any = {"class_path": value} if isinstance(value, str) else value
    if isinstance(spec, Mapping) and "class_path" not in spec and isinstance(spec.get("init_args"), Mapping):
        given = ", ".join(f"{at}.{k}" for k in spec["init_args"])
        raise ValueError(f"{given}: name the part too, as {at}: {', '.join(choices(wanted))}")
    if not isinstance(spec, Mapping) or not isinstance(spec.get("class_path"), str):
        raise ValueError(f"{at} is {value!r}; allowed: the name of a {wanted.__name__}, or class_path and init_args")
    extra = set(spec) - {"class_path", "init_args"}
    if extra:
        raise ValueError(f"{at}.{sorted(extra)[0]}: unknown key beside class_path; arguments go into init_args")
    try:
        cls = resolve_class(spec["class_path"], wanted, allow)
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error
    before = len(problems)
    args = _arguments(spec.get("init_args") or {}, cls, allow, at, problems)
    resolved = {"class_path": class_path(cls), **({"init_args": args} if args else {})}
    if len(problems) == before and not issubclass(cls, nn.Module):
        build(resolved, allow, at)  # raises ValueError with the key
    return resolved

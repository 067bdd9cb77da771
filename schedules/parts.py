"""Objects to class paths and back: {class_path: ..., init_args: {...}}, the form of every part in YAML.

Only classes of Sfumato, and of packages that the caller names, are ever imported: a run folder of somebody else chooses among
parts, it does not run code.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .library import Library

__all__ = ["build", "class_path", "class_paths", "describe", "find_class", "in_short"]


def class_path(cls: type) -> str:
    """Where a class can be imported from: its public package rather than its file, where the package exports it."""
    module = cls.__module__
    public = module.rpartition(".")[0]
    if public in sys.modules and getattr(sys.modules[public], cls.__name__, None) is cls:
        return f"{public}.{cls.__name__}"
    return f"{module}.{cls.__qualname__}"


def describe(value: Any) -> Any:
    """Plain data that says how to build a value again.

    Args:
        value: numbers, strings, None, lists, tuples, dicts, dataclasses, modules that carry their arguments in `.config`, and
            optimizers of any library, which are written as their class.

    Raises:
        ValueError: for anything else, with what to do.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): describe(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if isinstance(value, nn.Module) and isinstance(getattr(value, "config", None), Mapping):
        return {"class_path": class_path(type(value)), "init_args": describe(value.config)}
    if isinstance(value, Library):
        arguments = describe(value.arguments)
        return {"class_path": class_path(value.cls), **({"init_args": arguments} if arguments else {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: describe(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class_path": class_path(type(value)), **({"init_args": fields} if fields else {})}
    raise ValueError(
        f"{type(value).__name__} can't be written to a config: make it a dataclass, or a module whose `.config` holds the "
        "arguments that it was built with"
    )


def class_paths(description: Any) -> list[str]:
    """Every class path that a description names, at any depth."""
    if isinstance(description, Mapping):
        own = [description["class_path"]] if "class_path" in description else []
        return own + [path for value in description.values() for path in class_paths(value)]
    if isinstance(description, list | tuple):
        return [path for value in description for path in class_paths(value)]
    return []


def find_class(path: str, allow: Sequence[str] = ()) -> type:
    """The class at a dotted path.

    Args:
        path: such as "sfumato.samplers.DDIM".
        allow: packages other than Sfumato that may be imported; torch.optim always is.

    Raises:
        ValueError: when the package is not allowed, or there is no such class.
    """
    if not isinstance(path, str):
        raise ValueError(f"class_path is {path!r}; allowed: the dotted path of a class")
    package, _, name = path.rpartition(".")
    root = package.split(".")[0]
    if (
        root not in ("sfumato", *allow) and package != "torch.optim"
    ):  # imported already, and a package of optimizers only
        raise ValueError(
            f"class_path {path!r} is outside Sfumato, and importing it runs its code; if you trust it, allow its package: "
            f"allow=[{root!r}] in Python, --allow {root} on the command line"
        )
    try:
        module = importlib.import_module(package)
        found = getattr(module, name)
    except Exception as error:  # a plug-in may fail in any way
        near = get_close_matches(name, dir(sys.modules.get(package)), 1)
        hint = f"; did you mean {package}.{near[0]}?" if near else ""
        raise ValueError(f"class_path {path!r} can't be imported: {type(error).__name__}: {error}{hint}") from error
    if isinstance(found, type) and root == "sfumato" and not found.__module__.startswith("sfumato."):
        raise ValueError(f"class_path {path!r} is not a class of Sfumato, it is only used there")
    if not isinstance(found, type):
        raise ValueError(f"class_path {path!r} is not a class; give a class, its arguments go into init_args")
    return found


def build(spec: Any, allow: Sequence[str] = (), at: str = "") -> Any:
    """The value that `describe` described.

    Args:
        spec: plain data; mappings with a class_path become objects.
        allow: see `find_class`.
        at: where in the config this is, for messages.

    Raises:
        ValueError: naming the key, for a class that can't be imported or refuses its arguments.
    """
    if isinstance(spec, Mapping):
        if "class_path" not in spec:
            return {k: build(v, allow, f"{at}.{k}" if at else str(k)) for k, v in spec.items()}
        extra = set(spec) - {"class_path", "init_args"}
        if extra:
            raise ValueError(f"{at}: unknown key {sorted(extra)[0]!r} beside class_path; arguments go into init_args")
        cls = find_class(spec["class_path"], allow)
        args = build(dict(spec.get("init_args") or {}), allow, at)
        try:
            # an optimizer can't be made before the parameters that it moves
            return Library(cls, args) if issubclass(cls, torch.optim.Optimizer) else cls(**args)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{at or cls.__name__}: {error}") from error
    if isinstance(spec, list | tuple):
        return [build(v, allow, f"{at}[{i}]") for i, v in enumerate(spec)]
    return spec


def in_short(part: object) -> str:
    """A part as text of at most 60 characters, for people to read."""
    text = str(part).removesuffix("()")
    return text if len(text) <= 60 else f"{text[:57]}..."

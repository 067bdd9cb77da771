"""What a command is: options read from a dataclass, help from its docstring."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from docstring_parser import parse as parse_docstring

from ..schedules.parts import build
from .arguments import gather, merge, split
from .parts import choices, part_of, part_type, resolve_class
from .resolve import Field, fields_of, resolve
from .spelling import UsageError, did_you_mean

__all__ = ["flags_of", "help_text", "parse"]


def flags_of(*classes: type) -> list[str]:
    """The true-or-false options."""
    return [name for cls in classes for name, f in fields_of(cls).items() if f.hint is bool]


def parse(
    argv: Sequence[str], cls: type, positional: Sequence[str], recipe: type | None = None,
    base: Callable[[Sequence[tuple[str, Any]]], dict[str, Any]] | None = None,
) -> tuple[Any, list[tuple[str, Any]]]:  # fmt: skip
    """The options of a command, and the pairs that belong to a recipe.

    Args:
        argv: the words after the command.
        cls: a dataclass of the options.
        positional: which of them may be given without a name, in order.
        recipe: whose keys are left to the caller.
        base: what the pairs are set over, given the pairs.

    Raises:
        UsageError: with every problem found.
    """
    words, pairs = split(argv, flags_of(cls))
    if len(words) > len(positional):
        raise UsageError(
            [f"{words[len(positional)]!r}: unexpected; options start with --{did_you_mean(words[-1], fields_of(cls))}"]
        )
    pairs = [*zip(positional, words, strict=False), *pairs]
    # an unknown key is reported with the recipe's, all in one message
    ours = fields_of(cls)
    mine = [(k, v) for k, v in pairs if recipe is None or k.split(".")[0] in ours]
    theirs = [(k, v) for k, v in pairs if recipe is not None and k.split(".")[0] not in ours]
    many = {k for k, f in ours.items() if part_of(f.hint) or k == "allow"}
    one = [(k, v) for k, v in mine if k.split(".")[0] not in many]
    tree = merge(base(one) if base else {}, one)
    for key in many:
        if given := [(k, v) for k, v in mine if k.split(".")[0] == key]:
            tree[key] = gather(given)
    allow = tree.get("allow", [])
    look_here(allow)
    resolved = resolve(tree, cls, allow)

    hints = {name: f.hint for name, f in ours.items()}
    built = {k: build(v, allow, k) if part_type(hints[k]) or part_of(hints[k]) else v for k, v in resolved.items()}
    try:
        return cls(**built), theirs
    except ValueError as error:
        raise UsageError([str(error)]) from error


def look_here(allow: Sequence[str]) -> None:
    """Let plug-ins of the current folder be imported, as with `python -m`, where some are allowed."""
    if allow and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _line(name: str, field: Field, about: str, width: int) -> str:
    wanted = part_type(field.hint) or part_of(field.hint)
    names = f" One of {', '.join(choices(wanted))}." if wanted else ""
    default = "" if field.default is inspect.Parameter.empty else f" [{_short(field.default)}]"
    text = " ".join(f"{about}{names}".split()) + default
    return textwrap.fill(text, 110, initial_indent=f"  --{name}".ljust(width), subsequent_indent=" " * width)


def _short(value: Any) -> str:
    """A default, in a word."""
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value or not isinstance(value, list | tuple) else "none"


def help_text(usage: str, cls: type, recipe: type | None = None, argv: Sequence[str] = ()) -> str:
    """What --help prints: each option with its meaning, default and choices, from the docstrings.

    Args:
        usage: the first line.
        cls: the options of the command.
        recipe: whose keys may be given too.
        argv: the words beside --help; the arguments of each part that they name are listed.
    """
    about = parse_docstring(inspect.getdoc(cls) or "").short_description or ""
    parts = [f"usage: {usage}", "", " ".join(about.split()), ""]
    parts += _section("options", cls, "")
    if recipe is not None:
        parts += _section("recipe: any key of the config, over the preset", recipe, "")
    named = _named(argv)
    allow = [value for key, value in named if key == "allow"]
    look_here(allow)
    for key, value in named:
        hint = {**fields_of(cls), **(fields_of(recipe) if recipe else {})}.get(key, Field(None, None)).hint
        wanted = part_type(hint) or part_of(hint)
        if wanted is not None:
            with suppress(ValueError):  # what is no such part is not explained
                parts += _section(f"{key} {value}", resolve_class(value, wanted, allow), f"{key}.")
    if recipe is not None:
        parts.append(
            "A part is a short name or a class path; its arguments are dotted: --sampler GHVB --sampler.order 3.8"
        )
        parts.append(
            "`--backbone DiT --help` lists the arguments of a part. Naming a part starts from its own defaults."
        )
    return "\n".join(parts)


def _section(title: str, cls: type, prefix: str) -> list[str]:
    listed = parse_docstring(inspect.getdoc(cls) or "").params
    about = {name.strip(): p.description or "" for p in listed for name in p.arg_name.split(",")}
    fields = fields_of(cls)
    width = max((len(prefix + n) for n in fields), default=0) + 6
    return [f"{title}:", *(_line(prefix + n, f, about.get(n, ""), width) for n, f in fields.items()), ""]


def _named(argv: Sequence[str]) -> list[tuple[str, str]]:
    """The --key value pairs beside --help."""
    words = [w for w in argv if w not in ("--help", "-h")]
    try:
        return [
            (k, v)
            for k, v in split(words, ("resume", "dry_run", "print_config", "strict", "ema"))[1]
            if isinstance(v, str)
        ]
    except UsageError:
        return []

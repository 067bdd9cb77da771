"""What a command is: options read from a dataclass, help from its docstring."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from docstring_parser import parse as parse_docstring

from ..diffusion.parts import build
from .arguments import gather, merge, split
from .parts import choices, part_of, part_type
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
    resolved = resolve(tree, cls, allow)

    hints = {name: f.hint for name, f in ours.items()}
    built = {k: build(v, allow, k) if part_type(hints[k]) or part_of(hints[k]) else v for k, v in resolved.items()}
    try:
        return cls(**built), theirs
    except ValueError as error:
        raise UsageError([str(error)]) from error


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


def help_text(usage: str, cls: type, recipe: type | None = None) -> str:
    """What --help prints: each option with its meaning, default and choices, from the docstrings."""
    parts: list[str] = [
        f"usage: {usage}",
        "",
        " ".join((parse_docstring(inspect.getdoc(cls) or "").short_description or "").split()),
        "",
    ]
    for title, group in (("options", cls), ("recipe: any key of the config, over the preset", recipe)):
        if group is None:
            continue
        about = {p.arg_name: p.description or "" for p in parse_docstring(inspect.getdoc(group) or "").params}
        fields = fields_of(group)
        width = max(len(n) for n in fields) + 6
        parts += [f"{title}:", *(_line(n, f, about.get(n, ""), width) for n, f in fields.items()), ""]
    if recipe is not None:
        parts += [
            "A part is a short name or a class path; its arguments are dotted: --sampler GHVB --sampler.order 3.8",
            "",
        ]
    return "\n".join(parts)

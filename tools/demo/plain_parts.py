"""Parts that a visitor writes as in Python, and that reach no further than their own numbers: no file, no class by its path."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from ..compare.syntax import part_tree
from ..parts import choices, part_of, part_type
from ..resolve import fields_of

__all__ = ["check_counts", "check_said", "check_tree", "example", "plain_tree"]

# of whole numbers in parts, at most: what a step costs is not asked of Stop, which ends work between steps
_COUNTS = {"Langevin.count": 4, "RenoiseProbe.k": 64, "ExcessError.k": 64, "AdaptiveStep.limit": 2000}
_COUNT = 1000

# a dot between words, as in a class path or a file's name; those of numbers stand beside digits
# (from a word's first sign on, so that a long word is read once)
_DOTTED = re.compile(r"(?<!\w)\d*[^\W\d]\w*\s*\.\s*[^\W\d]")


def plain_tree(said: str, kind: type, name: str) -> Any:
    """The description of a part that a visitor wrote, such as DDIM(eta=1).

    Args:
        said: as in the form.
        kind: what it must be.
        name: of the field, for messages.

    Raises:
        ValueError: for what is no such part, and for one that would open a file or import something.
    """
    check_said(said, name)
    tree = part_tree(said, kind, (), name)
    check_tree(tree, kind, name)
    return tree


def check_said(said: str, name: str) -> None:
    """Refuse a text that names a class by its path, a file, or a node of YAML twice (of which few letters make a billion).

    Raises:
        ValueError: for such a text.
    """
    if "class_path" in said or _DOTTED.search(said):
        raise ValueError(
            f"{name} names a class or a file by its path; here a part is one of the menu's or of Sfumato's by its short name, such as "
            f"{example(name)}; class paths and files are for the command line"
        )
    if found := re.search(r"[&*!/\\]", said):
        raise ValueError(f"{name} holds {found[0]!r}; allowed: a name with arguments, such as {example(name)}")


def example(name: str) -> str:
    """A part as a visitor may write it.

    Args:
        name: of the field.
    """
    shown = {"guidance": "CFG(3)", "grid": "Karras(rho=5)", "filters": "PathLength(threshold=1)"}
    return shown.get(name.partition(".")[0], "DDIM(eta=1)")


def check_tree(tree: Any, kind: type, name: str) -> None:
    """Refuse a description, of which no object was made yet, whose arguments are files.

    Args:
        tree: as `part_tree` makes it.
        kind: what it is of.
        name: of the field, for messages.

    Raises:
        ValueError: for such an argument, at any depth.
    """
    if isinstance(tree, Sequence) and not isinstance(tree, str):
        for each in tree:
            check_tree(each, kind, name)
        return
    spec: Mapping[str, Any] = tree if isinstance(tree, Mapping) else {"class_path": tree}
    cls = choices(kind).get(str(spec.get("class_path")))
    if cls is None:
        return  # what it is not, `resolve` says
    fields = fields_of(cls)
    for key, value in (spec.get("init_args") or {}).items():
        hint = fields[key].hint if key in fields else None
        if (isinstance(value, str) and _may_be_file(hint)) or key == "allow":
            raise ValueError(
                f"{name}: {cls.__name__} reads {key} from a file, and files are not read for a visitor; use it on the command line"
            )
        if (wanted := part_type(hint) or part_of(hint)) is not None:
            check_tree(value, wanted, f"{name}.{key}")


def check_counts(made: Any, name: str) -> None:
    """Refuse a part that asks a network without end, as Langevin(count=1000000000) does within one step.

    Args:
        made: the part.
        name: of the field, for messages.

    Raises:
        ValueError: for a whole number that is too large, at any depth.
    """
    if isinstance(made, Mapping | list | tuple):
        for each in made.values() if isinstance(made, Mapping) else made:
            check_counts(each, name)
    if not dataclasses.is_dataclass(made):
        return
    for each in dataclasses.fields(made):
        value, at = getattr(made, each.name), f"{type(made).__name__}.{each.name}"
        most = _COUNTS.get(at, _COUNT)
        if type(value) is int and value > most:
            raise ValueError(f"{name}: {at} is {str(value)[:20]}; allowed here: at most {most}")
        check_counts(value, name)


def _may_be_file(hint: Any) -> bool:
    """Whether an argument is a thing or the file that it lies in, str | LinearPlan."""
    kinds = get_args(hint)
    return str in kinds and any(dataclasses.is_dataclass(each) for each in kinds)

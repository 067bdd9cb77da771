"""Values as a user writes them on an axis: lists, ranges, and parts with their arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import yaml

from ..parts import part_of, part_type, resolve_class
from ..resolve import fields_of

__all__ = ["cut", "part_tree", "ranged", "unquoted", "value_tree"]

_CLOSES = {"(": ")", "[": "]", "{": "}"}
_MOST = 10_000
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# "4..32": the dots of the range are never the point of its first number
_RANGE = re.compile(r"([+-]?\d+(?:\.\d+)?)\.\.([+-]?\d+(?:\.\d+)?)(?:\.\.(" + _NUMBER + r"))?")


def cut(text: str, at: str, name: str) -> list[str]:
    """A text cut at a sign, but not within brackets or quotes: "a,B(c=1,d=2)" at "," is ["a", "B(c=1,d=2)"].

    Args:
        text: any.
        at: one character.
        name: of the option, for messages.

    Raises:
        ValueError: for a bracket or quote without its other half, and an empty piece.
    """
    pieces, opened, quote, begin = [], [], "", 0
    for i, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and not text[begin:i].strip(" ([{=,:"):
            quote = sign  # an apostrophe within a word is none
        elif sign in _CLOSES:
            opened.append(_CLOSES[sign])
        elif sign in _CLOSES.values():
            if not opened or opened.pop() != sign:
                raise ValueError(f"{name} is {text!r}: {sign!r} at place {i + 1} closes nothing")
        elif sign == at and not opened:
            pieces.append(text[begin:i])
            begin = i + 1
    if quote or opened:
        raise ValueError(f"{name} is {text!r}: {quote or opened[-1]!r} is missing at its end")
    pieces.append(text[begin:])
    if not all(piece.strip() for piece in pieces):
        raise ValueError(
            f"{name} is {text!r}: a value is empty; write values with {at!r} between them, and none after the last"
        )
    return [piece.strip() for piece in pieces]


def unquoted(text: str) -> str:
    """A text without the quotes around it."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def ranged(text: str, name: str) -> list[str]:
    """ "4..12..4" is ["4", "8", "12"], "1..3" is ["1", "2", "3"]; what is no range is itself. Numbers are exact decimals.

    Args:
        text: one value.
        name: of the option, for messages.

    Raises:
        ValueError: for a range of fractions without a step, a step of 0 or in the other direction, an end that no step meets, and too many.
    """
    found = _RANGE.fullmatch(text)
    if found is None:
        if ".." in text and re.fullmatch(r"[\d.+\-eE]+", text):
            raise ValueError(
                f"{name}: {text!r} is no range; allowed: FIRST..LAST or FIRST..LAST..STEP, such as 4..32..4 or 0.1..0.5..0.1"
            )
        return [text]
    try:
        first, last = Decimal(found[1]), Decimal(found[2])
        step = None if found[3] is None else Decimal(found[3])
    except InvalidOperation as error:  # pragma: no cover - the pattern admits numbers only
        raise ValueError(f"{name}: {text!r} is no range of numbers") from error
    if step is None and (
        first != first.to_integral_value() or last != last.to_integral_value() or "." in found[1] + found[2]
    ):
        raise ValueError(f"{name}: {text!r} is a range of fractions, which needs a step, such as {text}..0.1")
    if step is None:
        step = Decimal(1) if last >= first else Decimal(-1)
    if step == 0 or (last - first) * step < 0:
        raise ValueError(
            f"{name}: {text!r} never arrives: the step is {step}; allowed: one from {first} towards {last}"
        )
    many = (last - first) / step
    if many >= _MOST:
        raise ValueError(f"{name}: {text!r} has more than {_MOST} values")
    if many != many.to_integral_value():
        met = f"{found[1]}..{_plain(first + step * int(many))}..{_plain(step)}"
        raise ValueError(f"{name}: {text!r} steps over its end {last}; allowed: an end that is met, such as {met}")
    return [_plain(first + step * i) for i in range(int(many) + 1)]


def _plain(number: Decimal) -> str:
    """A decimal without zeros at its end and without an exponent."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def part_tree(text: str, wanted: type, allow: Sequence[str], name: str) -> Any:
    """The description of a part that is written as in Python: "HeavyBall(base=DPMSolverPP(2), beta=0.8)".

    Args:
        text: NAME or NAME(argument, key=argument, ...), a short name or a class path.
        wanted: what it must be.
        allow: packages beside Sfumato whose classes may be named.
        name: of the key, for messages.

    Returns:
        {class_path, init_args}, its arguments not yet checked.

    Raises:
        ValueError: for what is none of these, with the nearest spelling of the name.
    """
    found = re.fullmatch(r"([A-Za-z_][\w.]*)\s*(?:\((.*)\))?", text.strip(), re.DOTALL)
    if found is None:
        raise ValueError(
            f"{name} is {text!r}; allowed: the name of a {wanted.__name__}, with arguments as in DDIM(eta=1)"
        )
    try:
        cls = resolve_class(found[1], wanted, allow)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    fields = fields_of(cls)
    given: dict[str, Any] = {}
    for i, piece in enumerate(cut(found[2], ",", name) if (found[2] or "").strip() else []):
        key = re.match(r"(\w+)\s*=\s*", piece)
        if key is None and i >= len(fields):
            raise ValueError(
                f"{name}: {found[1]} has {len(fields)} arguments, {text!r} gives more; allowed: {', '.join(fields) or 'none'}"
            )
        own, rest = (key[1], piece[key.end() :]) if key else (list(fields)[i], piece)
        if own in given:
            raise ValueError(f"{name}: {text!r} gives {own} twice")
        given[own] = value_tree(rest, fields[own].hint if own in fields else None, allow, f"{name}.{own}")
    return {"class_path": found[1], **({"init_args": given} if given else {})}


def value_tree(text: str, hint: Any, allow: Sequence[str], name: str) -> Any:
    """One argument as plain data: a part where one is wanted, a YAML list or mapping, or the text, which is read later by its type.

    Args:
        text: as written.
        hint: the type of the argument; None: unknown.
        allow, name: as `part_tree`.

    Raises:
        ValueError: as `part_tree`.
    """
    text = text.strip()
    wanted, elements = part_type(hint), part_of(hint)
    if elements is not None:
        inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
        return [part_tree(piece, elements, allow, name) for piece in cut(inner, ",", name)]
    if wanted is not None and text != "null":
        return part_tree(text, wanted, allow, name)
    if text[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise ValueError(f"{name} is {text!r}, which is no list or mapping") from error
    return unquoted(text)

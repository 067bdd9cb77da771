"""What comes from a browser, checked again where it is used: a page's own limits hold for nobody who does not use the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

# what turns the direction of the letters around it (a name then reads as another one), and what ends a line unseen
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")

__all__ = ["choice", "flag", "interval", "number", "several", "text", "whole"]


def whole(value: object, name: str, least: int, most: int) -> int:
    """A whole number; 3.0 is one, since a browser knows no other numbers, but true, 2.7 and "3" are not.

    Args:
        value: as it came.
        name: of the field, for messages.
        least, most: ends, included.

    Raises:
        ValueError: for anything else.
    """
    found = _real(value)
    if found is None or found != int(found) or not least <= found <= most:
        raise ValueError(f"{name} is {_shown(value)}; allowed: whole numbers from {least} to {most}")
    return int(found)


def number(value: object, name: str, least: float, most: float) -> float:
    """A finite number; true and "3" are none.

    Args:
        value, name, least, most: as of `whole`.

    Raises:
        ValueError: for anything else.
    """
    found = _real(value)
    if found is None or not least <= found <= most:
        raise ValueError(f"{name} is {_shown(value)}; allowed: numbers from {least:g} to {most:g}")
    return float(found)


def flag(value: object, name: str) -> bool:
    """True or false, and nothing that is only like it.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {_shown(value)}; allowed: true, false")
    return value


def text(value: object, name: str, most: int = 2000) -> str:
    """A text without control characters, halves of characters and turns of direction; nothing said is the empty text.

    Args:
        value, name: as of `whole`.
        most: characters.

    Raises:
        ValueError: for anything else.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_shown(value)}; allowed: a text")
    if len(value) > most:
        raise ValueError(f"{name} has {len(value):,} characters; allowed: at most {most:,}")
    if any((ord(sign) < 32 and sign not in "\n\t") or 127 <= ord(sign) < 160 for sign in value):
        raise ValueError(f"{name} holds control characters; allowed: plain text")
    if any(0xD800 <= ord(sign) < 0xE000 or sign in _TURNS for sign in value):
        raise ValueError(
            f"{name} holds halves of characters, or turns the direction of its letters; allowed: plain text"
        )
    return value.strip()


def choice(value: object, name: str, allowed: Sequence[str]) -> str:
    """One of some names.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name} is {_shown(value)}; allowed: {', '.join(allowed)}")
    return value


def several(value: object, name: str, allowed: Sequence[str]) -> list[str]:
    """Some of some names, each at most once; nothing said is none of them.

    Raises:
        ValueError: for anything else.
    """
    given = [] if value is None else value
    if not isinstance(given, list | tuple) or len(given) > len(allowed):
        raise ValueError(f"{name} is {_shown(value)}; allowed: a list of {', '.join(allowed)}, each once")
    found = [choice(each, name, allowed) for each in given]
    if len(set(found)) < len(found):
        raise ValueError(f"{name} is {_shown(value)}: one is there twice")
    return found


def interval(value: object, name: str, least: float, most: float) -> tuple[float, float]:
    """Two numbers in order.

    Args:
        value, name: as of `whole`.
        least, most: ends of what each may be.

    Raises:
        ValueError: for anything else.
    """
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name} is {_shown(value)}; allowed: two numbers from {least:g} to {most:g}")
    low, high = (number(each, name, least, most) for each in value)
    if low > high:
        raise ValueError(f"{name} runs from {low:g} to {high:g}; allowed: the lower end first")
    return low, high


def _real(value: object) -> int | float | None:
    """A finite number that is no truth value; whole ones stay whole, of any size."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def _shown(value: object) -> str:
    """A value for a message: never long, and of signs that can be seen."""
    if not isinstance(value, int | float | bool | str | None):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 128:  # Python refuses to write out what is very long
        return f"a number of about {round(value.bit_length() * math.log10(2)):,} digits"
    words = repr(value[:50] if isinstance(value, str) else value)
    return words if len(words) <= 40 else f"{words[:37]}..."

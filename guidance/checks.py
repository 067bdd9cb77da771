"""What rules refuse when they are made: values that would only be found out on the way, or never."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

from ..schedules.rows import Row
from .ask import Guidance

__all__ = ["check_branch", "check_number", "check_rule", "check_scale", "check_space_is_row"]


def check_rule(whole: object, rule: object) -> None:
    """Refuse a rule within another that is none, or a class instead of an object.

    Raises:
        ValueError: naming the rule and the fix.
    """
    if isinstance(rule, type) or not isinstance(rule, Guidance):
        raise ValueError(
            f"{type(whole).__name__}.rule is {_shown(rule)}; allowed: a guidance rule, such as CFG(3.0), before the numbers"
        )


def check_number(whole: object, name: str, value: object, words: str, least: float = -math.inf) -> None:
    """Refuse what is no number, nan, and what lies below `least`.

    Args:
        whole, name, value: the rule, its field, and what it is.
        words: what is allowed.
        least: the smallest value that is.

    Raises:
        ValueError: naming the field.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) >= least:
        raise ValueError(f"{type(whole).__name__}.{name} is {value!r}; allowed: {words}")


def check_branch(whole: object, name: str) -> None:
    """Refuse what is no name of a branch to steer away from.

    Raises:
        ValueError: naming the rule.
    """
    if not isinstance(name, str) or not name or name == "cond":
        raise ValueError(
            f"{type(whole).__name__}.against is {name!r}; allowed: the name of a branch other than 'cond', which it steers towards: 'ref', "
            "'negative', 'weak', or one of your own"
        )


def check_space_is_row(whole: object, space: object) -> None:
    """Refuse a space that is no row.

    Raises:
        ValueError: naming the rule.
    """
    if isinstance(space, type) or not isinstance(space, Row):
        raise ValueError(f"{type(whole).__name__}.space is {_shown(space)}; allowed: a row, such as X0(), V() or Eps()")


def check_scale(name: str, scale: float | Sequence[float]) -> None:
    """Refuse a scale that is not finite, or an empty sequence of them.

    Raises:
        ValueError: naming the rule.
    """
    scales = scale if isinstance(scale, list | tuple) else [scale]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in scales)
    if not scales or not numbers:
        hint = f" ({type(scale).__name__}: give float(...) or .tolist())" if hasattr(scale, "__array__") else ""
        raise ValueError(
            f"{name}.scale is {scale!r}{hint}; allowed: a finite number (1 is unguided, 3 is moderate), or a list with one per picture"
        )


def _shown(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else repr(value)

"""What a visitor does to a rule and to filters: a strength, something to steer away from, an interval, thresholds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...guidance import Autoguidance, Guidance, Interval, Plain, rules_within
from ...samplers.filters import Filter
from .menus import FILTERS, SCALES

__all__ = ["asks", "filters_of", "limited_to", "steered_from", "with_scale"]


def with_scale(rule: Guidance, name: str, scale: float) -> Guidance:
    """A rule of the menu with a visitor's strength; any other as it is.

    Args:
        rule: the part.
        name: as the form names it.
        scale: of the form.

    Raises:
        ValueError: for a strength that the rule does not have.
    """
    return _replaced(rule, "scale", lambda _: scale) if name in SCALES else rule


def steered_from(rule: Guidance, branch: str) -> Guidance:
    """A rule that steers away from another branch than from no condition.

    Args:
        rule: any.
        branch: the other one.

    Raises:
        ValueError: where it steers away from nothing, so that the branch would be given in vain.
    """
    found = _replaced(rule, "against", lambda own: branch if own == "ref" else own)
    if not asks(found, branch):
        raise ValueError(
            f"negative is given, but this guidance ({rule}) steers away from no condition; choose CFG or another that does, or leave "
            "negative empty"
        )
    return found


def limited_to(rule: Guidance, low: float, high: float, end: float) -> Guidance:
    """A rule that holds within an interval only; the model's own interval gives way to it, and what never guides needs none.

    Args:
        rule: any.
        low, high: in log-SNR.
        end: from which on an end is none.
    """
    inner = rule.rule if isinstance(rule, Interval) else rule
    if isinstance(inner, Plain):
        return inner
    return Interval(inner, None if low <= -end else low, None if high >= end else high, unit="log_snr")


def asks(rule: object, branch: str) -> bool:
    """Whether a rule names a branch, anywhere within it."""
    if branch == "weak" and any(True for _ in rules_within(rule, Autoguidance)):
        return True
    if dataclasses.is_dataclass(rule) and not isinstance(rule, type):
        values = [getattr(rule, each.name) for each in dataclasses.fields(rule)]
        return getattr(rule, "against", None) == branch or any(asks(value, branch) for value in values)
    return isinstance(rule, Mapping) and branch in rule


def _replaced(rule: Any, field: str, of: Callable[[Any], Any]) -> Any:
    """A rule with a field of it, and of the rules within it, set anew."""
    changed: dict[str, Any] = {}
    for each in dataclasses.fields(rule):
        value = getattr(rule, each.name)
        if each.name == field:
            changed[field] = of(value)
        elif dataclasses.is_dataclass(value) and isinstance(value, Guidance):
            changed[each.name] = _replaced(value, field, of)
    return dataclasses.replace(rule, **changed) if changed else rule


def filters_of(
    names: Sequence[str], thresholds: str, calibrations: Mapping[str, Filter], part: Callable[[str, Mapping[str, str]], Any]
) -> list[Filter]:  # fmt: skip
    """Filters, those of the menu with a visitor's thresholds.

    Args:
        names: as the form names them.
        thresholds: one for each filter of the menu, with commas between; "": none.
        calibrations: calibrated filters by name.
        part: makes one of a menu's name, or as in Python.

    Raises:
        ValueError: for thresholds that are no numbers, too many or too few, and a filter that is there twice.
    """
    if len(set(names)) < len(names):
        raise ValueError(f"filters are {', '.join(names)}: one is there twice")
    wanted = [name for name in names if name in FILTERS]
    given = [each.strip() for each in thresholds.split(",")] if thresholds.strip() else [""] * len(wanted)
    if len(given) != len(wanted):
        raise ValueError(
            f"thresholds are {len(given)}; allowed: none, or one for each of these filters, with commas between: "
            f"{', '.join(wanted) or 'none of the chosen ones takes a threshold'}"
        )
    own = dict(zip(wanted, given, strict=True))
    found: list[Filter] = []
    for name in names:
        if name in calibrations:
            found.append(calibrations[name])
            continue
        if name.startswith("calibrated "):
            raise ValueError(
                f"filters: there is no {name!r} of this model; choose one of the menu, or calibrate one with sfumato calibrate"
            )
        made: Any = part(name, FILTERS)
        found.append(dataclasses.replace(made, threshold=_number(own[name])) if own.get(name) else made)
    return found


def _number(said: str) -> float:
    try:
        found = float(said)
    except ValueError:
        found = math.nan
    if math.isnan(found):
        raise ValueError(f"thresholds: {said[:40]!r} is no number; allowed: numbers such as 0.02, with commas between")
    return found

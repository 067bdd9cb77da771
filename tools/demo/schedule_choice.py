"""What a visitor turned, as parts of a forward process, and back: every value from the browser is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

from ...schedules import Explicit, Schedule
from ...schedules.parts import in_short
from ..inspected import Inspected, Parts
from ..resolve import fields_of
from . import checked
from .knobs import KINDS, KNOBS, SAME, WRAPPERS, Knob, Listed, Nested, classes_of, names_of

__all__ = ["Turned", "as_choice", "read_choice"]

STEPS, SIZE, INPUT_STD = (
    Knob(1, 1000, log=True, whole=True),
    Knob(4, 1024, log=True, whole=True),
    Knob(0.05, 5, log=True),
)
"""What is turned beside parts: steps of the grid, pixels or latents along a side, and the standard deviation by which x is divided."""

BESIDE = 2
"""Schedules that may be drawn beside the first."""


class Turned(NamedTuple):
    """The parts, what is drawn beside them, numbers per channel of a sample, and whether its training is only assumed."""

    parts: Parts
    also: tuple[Schedule, ...]
    elements: int
    assumed: bool


def as_choice(source: Inspected) -> dict[str, Any]:
    """The position of every control that gives these parts; a part that no control can give is named "", as it is.

    Args:
        source: the process that is looked at.
    """
    parts, size = source.parts, round(source.elements**0.5)
    base, wraps = _unwrapped(parts.schedule)
    if base["name"] == "":
        wraps = dict.fromkeys(WRAPPERS)
    choice: dict[str, Any] = {"schedule": base, "wraps": wraps}
    for kind in KINDS:
        if kind != "schedule":
            choice[kind] = _written(getattr(parts, kind), kind)
    known = parts.input_std is None or _fits(INPUT_STD, parts.input_std)
    choice |= {
        "steps": min(parts.sampling_steps, int(STEPS.most)), "size": max(int(SIZE.least), min(int(SIZE.most), size)),
        "input_std": parts.input_std if known else None, "also": [],
        "own": {kind: in_short(getattr(parts, kind)) for kind in KINDS},
    }  # fmt: skip
    # what the controls can't say exactly stays as it is
    for kind in KINDS:
        if choice[kind]["name"]:
            try:
                given = _schedule(choice, source, "") if kind == "schedule" else _part(choice[kind], kind, kind, source)
            except ValueError:
                given = None
            if given != getattr(parts, kind):
                choice[kind] = {"name": "", "args": {}}
                if kind == "schedule":
                    choice["wraps"] = dict.fromkeys(WRAPPERS)
    return choice


def _fits(knob: Knob, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and knob.least <= value <= knob.most


def _unwrapped(schedule: Schedule) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schedule as what is within, and what is around it."""
    wraps: dict[str, Any] = dict.fromkeys(WRAPPERS)
    for name in reversed(WRAPPERS):
        if type(schedule).__name__ == name:
            wraps[name] = _arguments(schedule, without=("schedule",))
            schedule = schedule.schedule  # pyright: ignore[reportAttributeAccessIssue]
    return _written(schedule, "schedule"), wraps


def _written(part: object, kind: str, nested: bool = False) -> dict[str, Any]:
    name = type(part).__name__
    if name not in names_of(kind, nested) or type(part) is not classes_of(kind)[name]:
        return {"name": "", "args": {}}
    if kind == "sampler":  # its arguments are not turned here, so it is offered as it is by default
        return {"name": name if part == type(part)() else "", "args": {}}
    return {"name": name, "args": _arguments(part)}


def _arguments(part: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    knobs = KNOBS[type(part).__name__]
    found: dict[str, Any] = {}
    for name in fields_of(type(part)):
        if name in without:
            continue
        value, knob = getattr(part, name), knobs.get(name)
        if isinstance(knob, Nested):
            found[name] = _written(value, knob.kind, True)
        elif isinstance(knob, Listed):
            found[name] = ", ".join(repr(float(v)).removesuffix(".0") for v in value)
        elif isinstance(knob, Knob):
            found[name] = None if knob.off and value == knob.at else value
        else:
            found[name] = value
    return found


def read_choice(value: object, source: Inspected) -> Turned:
    """The parts that the controls say.

    Args:
        value: as it came from the browser.
        source: the process that was chosen first, whose parts "" stands for.

    Raises:
        ValueError: for what is no position of the controls, in words, and what a class refuses.
    """
    said = _mapping(value, "controls", ("schedule", "wraps", *KINDS, "steps", "size", "input_std", "also", "own"))
    also = said.get("also") or []
    if not isinstance(also, list) or len(also) > BESIDE:
        raise ValueError(f"also: allowed: at most {BESIDE} schedules beside the first")
    schedule = _schedule(said, source, "")
    given = {kind: _part(said.get(kind), kind, kind, source, schedule) for kind in KINDS if kind != "schedule"}
    steps = int(_number(said.get("steps"), STEPS, "steps"))
    if isinstance(given["grid"], Explicit) and isinstance(said.get("grid"), Mapping) and said["grid"].get("name"):
        steps = len(given["grid"].values)  # a list of levels says how many steps there are
    std = said.get("input_std")
    input_std = None if std is None else _number(std, INPUT_STD, "input_std")
    size = int(_number(said.get("size"), SIZE, "size"))
    beside = tuple(_schedule(_mapping(s, "also", ("schedule", "wraps")), source, "beside it: ") for s in also)
    parts = Parts(schedule=schedule, sampling_steps=steps, input_std=input_std, **given)
    own = source.elements if size == round(source.elements**0.5) else size**2
    return Turned(parts, beside, own, source.assumed)


def _schedule(said: Mapping[str, Any], source: Inspected, at: str) -> Schedule:
    """A schedule and what is around it."""
    schedule = _part(said.get("schedule"), "schedule", f"{at}schedule", source)
    wraps = _mapping(said.get("wraps") or {}, f"{at}wraps", WRAPPERS)
    for name in WRAPPERS:
        if wraps.get(name) is not None:
            cls = classes_of("schedule")[name]
            schedule = _made(cls, {"schedule": schedule, **_read(cls, wraps[name], f"{at}{name}", source, schedule)})
    return schedule


def _part(value: object, kind: str, at: str, source: Inspected, same: Any = None, nested: bool = False) -> Any:
    said = _mapping(value, at, ("name", "args"))
    name = said.get("name")
    if name == "" and not nested:
        return getattr(source.parts, kind)
    if name == SAME and nested and same is not None and kind == "schedule":
        return same
    name = checked.choice(name, at, names_of(kind, nested))
    cls = classes_of(kind)[name]
    return _made(cls, {} if kind == "sampler" else _read(cls, said.get("args") or {}, at, source, same))


def _made(cls: type, arguments: dict[str, Any]) -> Any:
    return cls(**arguments)


def _read(cls: type, value: object, at: str, source: Inspected, same: Any) -> dict[str, Any]:
    """The arguments of a class; what is not said is as it begins."""
    fields, knobs = fields_of(cls), KNOBS[cls.__name__]
    said = _mapping(value, at, [name for name in fields if name != "schedule" or name in knobs])
    found: dict[str, Any] = {}
    for name, (hint, default) in fields.items():
        if name not in knobs and name not in said:
            continue
        here, knob = f"{cls.__name__}.{name}", knobs.get(name)
        if name not in said:
            if isinstance(knob, Nested):
                found[name] = _part({"name": knob.start}, knob.kind, here, source, same, nested=True)
            elif isinstance(knob, Listed):
                found[name] = list(knob.start)
            else:
                found[name] = default
        elif isinstance(knob, Nested):
            found[name] = _part(said[name], knob.kind, here, source, same, nested=True)
        elif isinstance(knob, Listed):
            found[name] = _list(said[name], here, knob.most)
        elif isinstance(knob, Knob):
            found[name] = knob.at if said[name] is None and knob.off else _number(said[name], knob, here)
        elif hint is bool:
            found[name] = checked.flag(said[name], here)
        elif get_origin(hint) is Literal:
            found[name] = checked.choice(said[name], here, [str(word) for word in get_args(hint)])
    return found


def _number(value: object, knob: Knob, at: str) -> int | float:
    if knob.whole:
        return checked.whole(value, at, int(knob.least), int(knob.most))
    return checked.number(value, at, knob.least, knob.most)


def _list(value: object, at: str, most: int) -> list[float]:
    words = [word for word in checked.text(value, at, 20 * most).replace(";", ",").replace(",", " ").split() if word]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{at} is not a list of numbers; allowed: such as 1, 0.5, 0.2") from None
    if not 1 <= len(numbers) <= most or any(v != v for v in numbers):
        raise ValueError(f"{at} has {len(numbers)} numbers; allowed: 1 to {most}")
    return numbers


def _mapping(value: object, at: str, allowed: Any) -> dict[str, Any]:
    """Names with values, none of them unknown."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{at} is a {type(value).__name__}; allowed: names with values")
    unknown = [str(key)[:40] for key in value if key not in allowed]
    if unknown:
        raise ValueError(f"{at} has no {unknown[0]!r}; allowed: {', '.join(allowed) or 'none'}")
    return dict(value)

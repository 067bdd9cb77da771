"""Guidance in the settings of a picture, as the form says it: a rule, its strength, an interval, something to steer away from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ...diffusion import Model
from ...guidance import Guidance, Interval, Plain
from ...schedules.parts import describe
from .asked_for import LOG_SNR
from .facts import Facts
from .form import part
from .menus import NONE, OWN, RULES, SCALES
from .part_text import part_text
from .steering import asks, steered_from, with_scale

__all__ = ["alike", "rule_of"]


def alike(menu: Mapping[str, str], part: object) -> list[str]:
    """The names of a menu whose parts are of the class of a part."""
    return [name for name, text in menu.items() if text.partition("(")[0] == type(part).__name__]


def rule_of(settings: Mapping[str, Any], model: Model, facts: Facts, notes: list[str]) -> dict[str, Any]:
    """The form's fields that say how a picture was guided.

    Args:
        settings: of the picture.
        model, facts: that is chosen.
        notes: added to.
    """
    try:
        whole = part(part_text(settings.get("guidance"), Guidance), Guidance, {}, None, "guidance")
    except ValueError as error:
        notes.append(f"guidance: {error}; the model's own is taken")
        return {"rule": OWN}
    found: dict[str, Any] = {"limited": False}
    inner: Any = whole
    if isinstance(whole, Interval) and whole.unit == "log_snr":
        low, high = (-LOG_SNR if whole.low is None else whole.low), (LOG_SNR if whole.high is None else whole.high)
        if low >= -LOG_SNR and high <= LOG_SNR and not isinstance(whole.rule, Interval | Plain):
            inner = whole.rule
            found |= {"limited": True, "interval": [low, high]}
    found |= _negative(settings, inner, facts, notes) | _weak(settings, inner, facts, notes)
    return found | _named(inner, model, bool(found.get("negative")))


def _named(rule: Guidance, model: Model, negative: bool) -> dict[str, Any]:
    """The menu's name of a rule and its strength, or its text."""
    if isinstance(rule, Plain):
        return {"rule": NONE}
    scale = _scale(rule)
    for name in alike(RULES, rule):
        kind = SCALES[name]
        if not (isinstance(scale, int | float) and kind.least <= scale <= kind.most):
            continue
        candidate = with_scale(part(name, Guidance, RULES, None, "guidance"), name, scale)
        if negative and asks(candidate, "ref"):
            candidate = steered_from(candidate, "negative")
        if candidate == rule:
            return {"rule": name, "scale": scale}
    return {"rule": OWN if rule == model.guidance else part_text(describe(rule), Guidance)}


def _scale(rule: object) -> Any:
    """The first strength in a rule."""
    if not dataclasses.is_dataclass(rule) or isinstance(rule, type):
        return None
    if hasattr(rule, "scale"):
        return getattr(rule, "scale")  # noqa: B009 - no protocol has it
    within = (_scale(getattr(rule, each.name)) for each in dataclasses.fields(rule))
    return next((found for found in within if found is not None), None)


def _negative(settings: Mapping[str, Any], rule: Guidance, facts: Facts, notes: list[str]) -> dict[str, Any]:
    also = settings.get("also")
    if not isinstance(also, Mapping):
        return {}
    if further := [str(name)[:40] for name in also if name != "negative"]:
        notes.append(f"it was told of further conditions ({', '.join(further)}), which the form has no place for")
    if "negative" not in also or not asks(rule, "negative"):
        return {}
    told = also["negative"]
    if isinstance(told, list | tuple):
        told = told[0] if len({str(each) for each in told}) == 1 else told
    if isinstance(told, list | tuple):
        notes.append("what it steers away from is another for each picture; it is left out")
        return {}
    null = settings.get("null_class")
    words = NONE if told is None or (facts.classes and told == null) else str(told)
    return {"negative": words}


def _weak(settings: Mapping[str, Any], rule: Guidance, facts: Facts, notes: list[str]) -> dict[str, Any]:
    weak = settings.get("weak")
    if not asks(rule, "weak"):
        return {}
    name = str(weak.get("run", "a model without a name")) if isinstance(weak, Mapping) else "a model that is not named"
    step = f" step {weak['checkpoint']}" if isinstance(weak, Mapping) and weak.get("checkpoint") is not None else ""
    notes.append(f"it was steered away from a weaker model, {name}{step}; choose it under Weaker model")
    return {"weak": name} if name in facts.weak else {}

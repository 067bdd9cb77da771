"""A form that fits the chosen model: what is asked at all, what may be chosen, and what the model does not know put back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gradio as gr

from .facts import Facts
from .menus import EACH, FILTERS, GRIDS, NONE, OWN, RULES, SAMPLERS, SCALES
from .presets import CUSTOM, OWN_PRESET, presets_for
from .said import meant
from .slots import labels_of

__all__ = ["about", "fitted", "rules_of", "shown_rule"]

# classes that are listed by number; more are written
_LISTED = 20


def rules_of(facts: Facts) -> list[str]:
    """The rules of the menu that a model can be sampled under."""
    found = [NONE]
    if facts.guidable and facts.null:
        found += [
            name
            for name in RULES
            if name not in (NONE, "Autoguidance") and (facts.pixels or "thresholding" not in name)
        ]
    return found + (["Autoguidance"] if facts.weak else [])


def fitted(values: dict[str, Any], facts: Facts, most_steps: int) -> dict[str, Any]:
    """The form for a model: an update for each field, and for "preset".

    Args:
        values: what the page holds, by the names of `Form`; of any kind.
        facts: of the model.
        most_steps: that the server allows.
    """
    rules = rules_of(facts)
    rule = values.get("rule")
    if not isinstance(rule, str) or (rule not in (OWN, *rules) and (rule in RULES or not facts.guidable)):
        rule = OWN
    listed = [str(i) for i in range(facts.classes)] if facts.classes <= _LISTED else []
    weak = values.get("weak") if values.get("weak") in facts.weak else ""
    given = values.get("filters") if isinstance(values.get("filters"), list) else []
    filters = [name for name in given or [] if name in facts.calibrations or not str(name).startswith("calibrated ")]
    labels, negative = values.get("labels"), values.get("negative") or ""
    if not _known(labels, facts):
        labels = EACH
    if facts.classes and negative and not _known(negative, facts):
        negative = ""
    own = {
        "labels": gr.update(choices=_pairs([EACH, *([NONE] if facts.null else []), *listed]), value=labels, visible=bool(facts.classes)),
        "prompt": gr.update(visible=facts.texts),
        "negative": gr.update(
            value=negative, visible=facts.guidable, label="Negative prompt" if facts.texts else "Negative class",
            info="What to steer away from, instead of from no condition." if facts.texts
            else "A class to steer away from, instead of from no class.",
        ),
        "sampler": gr.update(choices=[(f"{OWN} · {facts.sampler}", OWN), *_pairs(SAMPLERS)]),
        "grid": gr.update(choices=[(f"{OWN} · {facts.grid}", OWN), *_pairs(GRIDS)]),
        "rule": gr.update(choices=[(f"{OWN} · {facts.rule}", OWN), *_pairs(rules)], value=rule),
        "weak": gr.update(choices=[("none", ""), *_pairs(facts.weak)], value=weak),
        "filters": gr.update(choices=_pairs([*facts.calibrations, *FILTERS]), value=filters),
    }  # fmt: skip
    shown = shown_rule(rule, facts)
    names = [*(each.name for each in presets_for(facts, most_steps)), CUSTOM]
    own["weak"] |= shown["weak"]
    return {**shown, **own, "preset": gr.update(choices=_pairs(names), value=OWN_PRESET)}


def _pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Choices of an update: what is shown, and what is meant."""
    return [(name, name) for name in names]


def _known(labels: object, facts: Facts) -> bool:
    try:
        labels_of(str(labels), 1, facts.classes, "class")
    except (ValueError, ZeroDivisionError):
        return False
    return True


def shown_rule(rule: str, facts: Facts) -> dict[str, Any]:
    """What is asked about a rule: its strength where it has one, a weaker model, an interval.

    Args:
        rule: as in the form.
        facts: of the model.
    """
    guides = rule != NONE and not (rule == OWN and facts.rule == "Plain")
    kind = SCALES.get(meant(rule, RULES))
    ends: dict[str, Any] = {} if kind is None else {"minimum": kind.least, "maximum": kind.most, "step": kind.step}
    return {
        "scale": gr.update(visible=kind is not None, **ends), "weak": gr.update(visible="weak" in rule or "Autoguidance" in rule),
        "limited": gr.update(visible=guides), "interval": gr.update(visible=guides),
    }  # fmt: skip


def about(facts: Facts) -> str:
    """A model in a line."""
    told = "prompts" if facts.texts else f"{facts.classes} classes" if facts.classes else "no classes"
    size = " × ".join(str(n) for n in facts.shape[-2:])
    step = facts.source.get("checkpoint")
    return f"{told} · {size} pixels" + (f" · step {step}" if isinstance(step, int) else "")

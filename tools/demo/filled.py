"""From the settings in a picture back to the form that would make it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...diffusion import Model
from ...samplers import Sampler
from ...samplers.filters import Filter
from ...schedules import Grid
from ...schedules.parts import describe
from ...schedules.plain_json import to_json
from .asked_for import STRICT_BATCH, Beside
from .facts import Facts
from .filled_rule import alike, rule_of
from .form import NAMES, Form, part, read_form
from .limits import Limits
from .menus import FILTERS, GRIDS, NONE, OWN, SAMPLERS
from .part_text import part_text

__all__ = ["settings_to_form", "tried"]


def settings_to_form(
    settings: Mapping[str, Any], model: Model, facts: Facts, beside: Beside, limits: Limits
) -> tuple[Form, list[str]]:
    """The form that makes a picture, or the pictures of a sheet, again; and what no form of this model can hold, in words.

    Settings may be anybody's: no class outside of Sfumato is imported, no file is opened, and each value is checked as a browser's are.

    Args:
        settings: as `read_settings` returns them.
        model, facts, beside: what is chosen on the page.
        limits: of the server.
    """
    notes: list[str] = _same_model(settings, facts, model)
    pictures = _pictures(settings, limits, notes)
    first = pictures[0]
    values: dict[str, Any] = {
        "sampler": _named(first.get("sampler"), Sampler, SAMPLERS, model.sampler, "sampler", notes),
        "grid": _named(first.get("grid"), Grid, GRIDS, model.grid, "grid", notes),
        "steps": first.get("steps", facts.steps), "count": len(pictures), "seeds": ",".join(_seed(each, notes) for each in pictures),
        "rejected": "mark" if first.get("mark", True) else "retry", "brownian": first.get("brownian") is True,
        "strict": first.get("strict") is True,
    }  # fmt: skip
    values |= _told(pictures, facts, notes) | rule_of(first, model, facts, notes) | _filters(first, beside, notes)
    for key in ("guidance", "sampler"):
        if any(each.get(key) != first.get(key) for each in pictures):
            notes.append(
                f"{key}: it is another for each picture of the sheet, and the form has one for all; the first one's is taken"
            )
    if values["strict"] and first.get("batch") != STRICT_BATCH:
        notes.append(
            f"the network saw {first.get('batch')} rows at once, and here it sees {STRICT_BATCH}; the last bits may differ"
        )
    if isinstance(attempt := first.get("attempt"), int) and attempt > limits.retries:
        notes.append(f"this was attempt {attempt}; here a picture is tried again {limits.retries} times at most")
    return tried(values, limits, notes), list(dict.fromkeys(notes))


def tried(values: Mapping[str, Any], limits: Limits, notes: list[str]) -> Form:
    """A form of values that may be anything: each is checked by itself, and one that is none is left as it is, and noted.

    Args:
        values: by the names of `Form`.
        limits: of the server.
        notes: added to.
    """
    form = Form()
    for name, value in values.items():
        plain = [value if each == name else _as_sent(getattr(form, each)) for each in NAMES]
        try:
            form = replace(form, **{name: getattr(read_form(plain, limits), name)})
        except ValueError as error:
            notes.append(f"{error}; left out")
    return form


def _as_sent(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _same_model(settings: Mapping[str, Any], facts: Facts, model: Model) -> list[str]:
    """In which way the chosen model is not the one that made the picture."""
    mine = dict(facts.source)
    known = ("run", "checkpoint", "ema", "diffusers", "folder", "dtype", "embedded_guidance")
    other = [key for key in known if (key in settings or key in mine) and settings.get(key) != mine.get(key)]
    notes: list[str] = []
    if other:
        notes.append(f"made by {_who(settings)}; the model chosen here is {_who(mine)}, so the picture will be another")
    path = to_json(describe(model.denoiser.schedule))
    if not other and settings.get("schedule") is not None and to_json(settings["schedule"]) != path:
        notes.append("made on another schedule than the model's here")
    if "device" in settings and settings["device"] != str(model.device):
        notes.append(f"made on {settings['device']}, and here it is {model.device}; the last bits may differ")
    return notes


def _who(source: Mapping[str, Any]) -> str:
    name = source.get("run") or source.get("folder") or source.get("diffusers") or "a model without a name"
    step = f" step {source['checkpoint']}" if source.get("checkpoint") is not None else ""
    average = {False: ", raw weights", True: ""}.get(
        source.get("ema", True), f", average of length {source.get('ema')}"
    )
    return f"{name}{step}{average}"


def _pictures(settings: Mapping[str, Any], limits: Limits, notes: list[str]) -> list[Mapping[str, Any]]:
    """The pictures of a sheet, or the one."""
    inner = settings.get("pictures")
    if not isinstance(inner, list) or not inner or not all(isinstance(each, Mapping) for each in inner):
        return [settings]
    if len(inner) > limits.pictures:
        notes.append(f"the sheet has {len(inner)} pictures; here are its first {limits.pictures}")
    return [{**settings, **each} for each in inner[: limits.pictures]]


def _seed(settings: Mapping[str, Any], notes: list[str]) -> str:
    seed = settings.get("seed")
    if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63:
        return str(seed)
    notes.append("the seed is not known, so the picture will be another")
    return "0"


def _told(pictures: Sequence[Mapping[str, Any]], facts: Facts, notes: list[str]) -> dict[str, Any]:
    """Classes, or the prompt."""
    if facts.texts:
        said = {str(each.get("prompt", "")) for each in pictures}
        if len(said) > 1:
            notes.append(f"the sheet has {len(said)} prompts, and the form has one for all; the first one's is taken")
        return {"prompt": str(pictures[0].get("prompt", ""))}
    if pictures[0].get("prompt"):
        notes.append("it was asked for in words, which this model does not know")
    labels = [each.get("label") for each in pictures]
    if not facts.classes:
        if any(label is not None for label in labels):
            notes.append("it is of a class, and this model knows none")
        return {}
    null = [each.get("null_class") for each in pictures]
    named = [NONE if label is None or label == none else str(label) for label, none in zip(labels, null, strict=True)]
    return {"labels": ",".join(named) if len(set(named)) > 1 else named[0]}


def _named(spec: Any, kind: type, menu: Mapping[str, str], own: Any, name: str, notes: list[str]) -> str:
    """The menu's name of a part, or its text."""
    try:
        text = part_text(spec, kind)
        made = part(text, kind, {}, None, name)
    except ValueError as error:
        notes.append(f"{name}: {error}; the model's own is taken")
        return OWN
    for each in alike(menu, made):
        if part(each, kind, menu, None, name) == made:
            return each
    return OWN if made == own else text


def _filters(settings: Mapping[str, Any], beside: Beside, notes: list[str]) -> dict[str, Any]:
    """Filters, with the thresholds of those of the menu."""
    specs = settings.get("filters")
    names: list[str] = []
    thresholds: list[str] = []
    calibrated = {name: to_json(describe(each)) for name, each in beside.calibrations.items()}
    for spec in specs if isinstance(specs, list | tuple) else []:
        path = spec.get("class_path") if isinstance(spec, Mapping) else None
        if path == "sfumato.samplers.filters.Calibrated":
            found = next((name for name, each in calibrated.items() if each == to_json(spec)), None)
            names += [found] if found else []
            if found is None:
                notes.append("a calibrated filter is none of this model's calibrations, so it is left out")
            continue
        try:
            text = part_text(spec, Filter)
            made = part(text, Filter, {}, None, "filters")
        except ValueError as error:
            notes.append(f"filters: {error}; left out")
            continue
        threshold = float(getattr(made, "threshold", float("inf")))
        for each in alike(FILTERS, made):
            menu = part(each, Filter, FILTERS, None, "filters")
            if replace(menu, threshold=threshold) == made:
                names.append(each)
                thresholds.append(repr(threshold))
                break
        else:
            names.append(text)
    known = [each for each in thresholds if each != "inf"]
    return {"filters": names, "threshold": ",".join(thresholds) if known else ""}

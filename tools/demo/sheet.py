"""The form as the visitor sees it."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr
from gradio.context import Context

from .facts import facts_of
from .fitting import about, fitted, shown_rule
from .form import NAMES, Form, chosen, read_form
from .interval import interval_field, interval_props
from .menus import EACH, FILTERS, GRIDS, NONE, OWN, RULES, SAMPLERS, SCALES
from .parts import Page, Sheet
from .presets import CUSTOM, CUSTOM_WHY, OWN_PRESET, Preset, fits, presets_for
from .slider import Slider
from .slots import labels_of
from .told import told

__all__ = ["form_sheet"]

# what the count of guided steps and of evaluations depends on
_DRAWN = ("labels", "prompt", "negative", "sampler", "grid", "steps", "rule", "scale", "limited")
# what presets decide on
_PRESET = ("sampler", "grid", "steps", "rule", "scale", "limited", "interval", "filters", "threshold", "rejected")


def form_sheet(page: Page) -> Sheet:
    """Put the form together, within its place on the page; it follows the model that is chosen."""
    note = gr.HTML(elem_id="model-note", elem_classes="sf-status")
    preset = gr.Dropdown([OWN_PRESET, CUSTOM], value=OWN_PRESET, label="Preset", elem_id="preset")
    why = gr.HTML(elem_id="preset-why", elem_classes="sf-status")
    fields = _fields(page)
    sheet = Sheet({name: fields[name] for name in NAMES})
    dice, reuse = fields["dice"], fields["reuse"]
    offered: dict[str, list[tuple[Preset, dict[str, Any]]]] = {}
    everything = [page.model, *sheet.components]

    @told
    def follow(name: str, *values: Any) -> list[Any]:
        """The form for the model; the first one is loaded here."""
        if not page.shelf.names:
            return [gr.skip() for _ in (*NAMES, preset, why, note)]
        facts = facts_of(page.shelf.get(name), page.shelf)
        found = fitted(dict(zip(NAMES, values, strict=True)), facts, page.limits.steps)
        offered[name] = [(each, each.filling(facts)) for each in presets_for(facts, page.limits.steps)]
        held = dict(zip(NAMES, values, strict=True))
        held |= {key: each["value"] for key, each in found.items() if key in held and "value" in each}
        now, words = _named(offered[name], held, "")
        return [
            *(found.get(each, gr.skip()) for each in NAMES),
            {**found["preset"], "value": now},
            html.escape(words),
            html.escape(about(facts)),
        ]

    @told
    def begin(name: str, *values: Any) -> list[Any]:
        """As `follow`, with the model's own number of steps."""
        if not page.shelf.names:
            return follow(name, *values)
        steps, given = NAMES.index("steps"), list(values)
        given[steps] = min(page.shelf.get(name).model.steps, page.limits.steps)
        found = follow(name, *given)
        found[steps] = gr.update(value=given[steps])
        return found

    def moved(name: str, chosen: str, *values: Any) -> tuple[Any, Any]:
        """The preset that the form still is."""
        now, words = _named(offered.get(name, []), dict(zip(NAMES, values, strict=True)), str(chosen))
        return (gr.skip(), gr.skip()) if now == chosen else (now, html.escape(words))

    @told
    def fill(name: str, chosen: str) -> list[Any]:
        facts = facts_of(page.shelf.get(name), page.shelf)
        wanted = next((each for each in presets_for(facts, page.limits.steps) if each.name == chosen), None)
        if wanted is None:
            return [*(gr.skip() for _ in NAMES), CUSTOM_WHY if chosen == CUSTOM else gr.skip()]
        values = wanted.filling(facts)
        shown = shown_rule(values["rule"], facts)
        return [
            *(
                {**shown.get(each, gr.update()), **({"value": values[each]} if each in values else {})}
                for each in NAMES
            ),
            html.escape(wanted.why),
        ]

    @told
    def choose(name: str, rule: str, scale: float) -> list[Any]:
        """What belongs to a rule, and its usual strength where the one that is there can't be meant."""
        shown = shown_rule(str(rule), facts_of(page.shelf.get(name), page.shelf))
        kind = SCALES.get(rule)
        if kind is not None and (not kind.least <= scale <= kind.most or (scale <= 1.0) != (kind.most <= 1.0)):
            shown["scale"] = {**shown["scale"], "value": kind.usual}
        return [shown[each] for each in ("scale", "weak", "limited", "interval")]

    def draw(name: str, *values: Any) -> Any:
        return _drawn(page, name, values)

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    found = [*sheet.components, preset, why, note]
    loading = page.model.change(lambda: "loading the model …", None, note, **quiet)
    loading.then(follow, everything, found, **quiet).then(draw, everything, fields["interval"], **quiet)
    block = Context.root_block
    assert block is not None
    opened = block.load(begin, everything, found, **quiet)
    opened.then(draw, everything, fields["interval"], **quiet)
    preset.input(fill, [page.model, preset], [*sheet.components, why], **quiet)
    gr.on(
        [fields[each].change for each in _PRESET], moved, [page.model, preset, *sheet.components], [preset, why],
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    fields["rule"].input(
        choose,
        [page.model, fields["rule"], fields["scale"]],
        [fields[each] for each in ("scale", "weak", "limited", "interval")],
        **quiet,
    )
    fields["filters"].change(
        lambda names: [gr.update(visible=bool(set(names or []) & set(FILTERS))), gr.update(visible=bool(names))],
        fields["filters"], [fields["threshold"], fields["rejected"]], **quiet,
    )  # fmt: skip
    gr.on(
        [fields[each].change for each in _DRAWN], draw, everything, fields["interval"],
        trigger_mode="always_last", **quiet,
    )  # fmt: skip
    return Sheet(sheet.fields, opened, dice, reuse)


def _named(offered: list[tuple[Preset, dict[str, Any]]], values: dict[str, Any], chosen: str) -> tuple[str, str]:
    """Name and sentence of the preset that a form is: the chosen one where that fits, else the first, else none of them."""
    fitting = [each for each, filling in offered if fits(filling, values)]
    found = next((each for each in fitting if each.name == chosen), fitting[0] if fitting else None)
    return (CUSTOM, CUSTOM_WHY) if found is None else (found.name, found.why)


def _fields(page: Page) -> dict[str, Any]:
    """The components by name, in the order in which they are looked at."""
    own, own_only = Form(), [OWN]
    with gr.Column():
        labels = gr.Dropdown([EACH, NONE], value=own.labels, label="Class", info="One of the list, or several: 0-4, 3,5,9.",
                             allow_custom_value=True, elem_id="labels")  # fmt: skip
        prompt = gr.Textbox(own.prompt, label="Prompt", lines=2, visible=False, elem_id="prompt")
        negative = gr.Textbox(own.negative, label="Negative class", elem_id="negative")
        with gr.Row():
            count = Slider(1, page.limits.pictures, own.count, step=1, label="Pictures", elem_id="count")
            seeds = gr.Textbox(
                own.seeds, label="Seed", info="random (or -1), one number, or several: 3,9,27-30.", elem_id="seeds"
            )
        with gr.Row(elem_classes="sf-small"):
            dice = gr.Button("New seeds each time", size="sm", elem_id="dice")
            reuse = gr.Button("Seeds of the last run", size="sm", elem_id="reuse")
    with gr.Accordion("How it walks", open=True, elem_id="part-how"):
        sampler = gr.Dropdown([*own_only, *SAMPLERS], value=OWN, label="Sampler", allow_custom_value=True, elem_id="sampler",
                              info="One of the list, or as in Python: DDIM(eta=0.5).")  # fmt: skip
        grid = gr.Dropdown([*own_only, *GRIDS], value=OWN, label="Grid", allow_custom_value=True, elem_id="grid",
                           info="The noise levels it steps on; others say scheduler.")  # fmt: skip
        steps = Slider(1, page.limits.steps, own.steps, step=1, label="Steps", elem_id="steps")
    with gr.Accordion("Guidance", open=True, elem_id="part-guidance"):
        rule = gr.Dropdown([*own_only, *RULES], value=OWN, label="Rule", allow_custom_value=True, elem_id="rule",
                           info="How strongly, and by which rule, pictures are pulled towards what was asked for.")  # fmt: skip
        scale = Slider(0, 15, own.scale, step=0.1, label="Scale", visible=False, elem_id="scale",
                          info="1 is no guidance; in CFG++ 0 is none.")  # fmt: skip
        weak = gr.Dropdown([("none", ""), *page.shelf.names], value="", label="Weaker model", visible=False, elem_id="weak",
                           info="Smaller, or trained less, on the same pictures; its mistakes are what is steered away from.")  # fmt: skip
        limited = gr.Checkbox(own.limited, label="Only within an interval of noise levels", elem_id="limited")
        interval = interval_field(own.interval)
    with gr.Accordion("Filters", open=False, elem_id="part-filters"):
        filters = gr.Dropdown(list(FILTERS), value=[], multiselect=True, allow_custom_value=True, label="Filters", elem_id="filters",
                              info="Each gives every picture a score; high scores are suspicious.")  # fmt: skip
        threshold = gr.Textbox(own.threshold, label="Thresholds", visible=False, elem_id="threshold", placeholder="score only",
                               info="The highest score that is kept, one number per filter with commas between. Empty: nothing is "
                               "rejected.")  # fmt: skip
        rejected = gr.Radio([("shown and marked", "mark"), ("made again", "retry")], value=own.rejected, label="Rejected pictures are",
                            visible=False, elem_id="rejected")  # fmt: skip
    with gr.Accordion("More", open=False, elem_id="part-more"):
        brownian = gr.Checkbox(own.brownian, label="One Brownian motion", elem_id="brownian",
                               info="A sampler that draws noise draws the same path in any number of steps.")  # fmt: skip
        strict = gr.Checkbox(own.strict, label="The same to the last bit", elem_id="strict",
                             info="However many pictures are asked for at once; slower for few.")  # fmt: skip
    return {
        "labels": labels, "prompt": prompt, "negative": negative, "sampler": sampler, "grid": grid, "steps": steps, "rule": rule,
        "scale": scale, "weak": weak, "limited": limited, "interval": interval, "seeds": seeds, "count": count, "filters": filters,
        "threshold": threshold, "rejected": rejected, "brownian": brownian, "strict": strict,
        "dice": dice, "reuse": reuse,
    }  # fmt: skip


def _drawn(page: Page, name: str, values: tuple[Any, ...]) -> Any:
    """The interval, drawn for what the form says; left as it is while that makes no sense."""
    try:
        form = read_form(values, page.limits)
        model = page.shelf.get(name).model
        sampler, grid, rule = chosen(form, model)
        alike = _alike(form, model.num_classes, model.text is not None)
        return gr.update(**interval_props(model, sampler, grid, form.steps, rule, form.limited, alike))
    except (ValueError, RuntimeError, ArithmeticError):  # numbers beyond what a tensor holds are the latter two
        return gr.skip()


def _alike(form: Form, classes: int, texts: bool) -> bool:
    """Whether every picture is steered from the very thing that it is asked for."""
    if texts:
        return form.prompt == form.negative
    if not classes:
        return False
    labels = labels_of(form.labels, form.count, classes, "class")
    return labels == labels_of(form.negative or NONE, form.count, classes, "negative class")

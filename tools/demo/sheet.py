"""The form as the visitor sees it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from .form import NAMES, Form
from .menus import FILTERS, GRIDS, OWN, RULES, SAMPLERS
from .parts import Page, Sheet

__all__ = ["form_sheet"]


def form_sheet(page: Page) -> Sheet:
    """Put the form together, within its place on the page; it follows the model that is chosen."""
    own = Form()
    fields: dict[str, Any] = {
        "labels": gr.Textbox(own.labels, label="Class", elem_id="labels"),
        "prompt": gr.Textbox(own.prompt, label="Prompt", elem_id="prompt"),
        "negative": gr.Textbox(own.negative, label="Negative prompt", elem_id="negative"),
        "sampler": gr.Dropdown([OWN, *SAMPLERS], value=OWN, label="Sampler", allow_custom_value=True, elem_id="sampler"),
        "grid": gr.Dropdown([OWN, *GRIDS], value=OWN, label="Grid", allow_custom_value=True, elem_id="grid"),
        "steps": gr.Slider(1, page.limits.steps, own.steps, step=1, label="Steps", elem_id="steps"),
        "rule": gr.Dropdown([OWN, *RULES], value=OWN, label="Guidance", allow_custom_value=True, elem_id="rule"),
        "scale": gr.Slider(0, 15, own.scale, label="Scale", elem_id="scale"),
        "weak": gr.Dropdown([("none", ""), *page.shelf.names], value="", label="Weaker model", elem_id="weak"),
        "limited": gr.Checkbox(own.limited, label="Only within", elem_id="limited"),
        "interval": gr.JSON(list(own.interval), elem_id="interval"),
        "seeds": gr.Textbox(own.seeds, label="Seed", elem_id="seeds"),
        "count": gr.Slider(1, page.limits.pictures, own.count, step=1, label="Pictures", elem_id="count"),
        "filters": gr.Dropdown(list(FILTERS), value=[], multiselect=True, allow_custom_value=True, label="Filters", elem_id="filters"),
        "threshold": gr.Textbox(own.threshold, label="Threshold", elem_id="threshold"),
        "rejected": gr.Radio(["mark", "retry"], value=own.rejected, label="Rejected", elem_id="rejected"),
        "brownian": gr.Checkbox(own.brownian, label="One Brownian motion", elem_id="brownian"),
        "strict": gr.Checkbox(own.strict, label="The same to the last bit", elem_id="strict"),
    }  # fmt: skip
    assert tuple(fields) == NAMES
    return Sheet(fields)

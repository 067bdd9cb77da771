"""What a visitor's own browser remembers: the form, and the seeds of the last run. A page that is opened again begins with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr

from .form import NAMES, Form, read_form
from .limits import Limits
from .parts import Page, Sheet

__all__ = ["Remembered", "recalled", "remembering"]

VERSION = 1


@dataclass(frozen=True, eq=False)
class Remembered:
    """seeds: of the last run, held by the browser. form: what was in the form when it began. inputs: of the page."""

    seeds: gr.BrowserState
    form: gr.BrowserState
    inputs: list[Any]

    def keep(self, pressed: Any) -> None:
        """Hold the form as it is when a button is pressed; the server is not asked."""
        js = f"(...given) => ({{version: {VERSION}, model: given[0], values: given.slice(1)}})"
        pressed.then(None, self.inputs, self.form, js=js, api_visibility="private")


def remembering(page: Page, sheet: Sheet) -> Remembered:
    """Put what is remembered on the page, and into the form when the page is opened."""
    # the key is no secret: what is held is the visitor's own, and checked like everything else
    seeds = gr.BrowserState({}, storage_key="sfumato-seeds", secret="sfumato")
    form = gr.BrowserState({}, storage_key="sfumato-form", secret="sfumato")

    inputs = [page.model, *sheet.components]

    def values_of(held: Any) -> list[Any]:
        found = recalled(held, page.limits)
        if found is None or held["model"] not in page.shelf.names:
            return [gr.skip() for _ in inputs]
        values = asdict(found)
        return [held["model"], *(list(v) if isinstance(v := values[name], tuple) else v for name in NAMES)]

    # after the form has met the first model: of another one that was held it hears as of a choice, and keeps what fits
    opened: Any = sheet.opened
    opened.then(values_of, form, inputs, queue=False, api_visibility="private", show_progress="hidden")
    return Remembered(seeds, form, inputs)


def recalled(held: object, limits: Limits) -> Form | None:
    """The form that a browser held; None where it is broken, or of another version of the page.

    Args:
        held: what came.
        limits: of the server.
    """
    if not isinstance(held, Mapping) or held.get("version") != VERSION or not isinstance(held.get("values"), list):
        return None
    if not isinstance(held.get("model"), str):
        return None
    try:
        return read_form(held["values"], limits)
    except ValueError:
        return None

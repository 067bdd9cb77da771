"""The info tab: a picture is dropped, what it says of itself is shown, and fills the form."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from ...diffusion.images import KEY
from ...schedules.plain_json import from_json
from .facts import beside, facts_of
from .filled import settings_to_form, tried
from .fitting import shown_rule
from .form import NAMES, Form
from .info_table import rows_of, table
from .menus import FILTERS
from .parts import Page, Sheet
from .png_texts import PngTexts, read_png
from .strangers import Foreign, read_a1111, read_comfy
from .told import told

__all__ = ["info_tab", "read_info"]


def info_tab(page: Page, sheet: Sheet) -> None:
    """Put the tab together, within its place on the page."""
    gr.HTML(
        '<p class="sf-status">A picture that Sfumato, Stable Diffusion web UI or ComfyUI made says how. Drop it here.</p>'
    )
    with gr.Row():
        with gr.Column(scale=1):
            file = gr.File(label="A PNG", file_types=[".png"], file_count="single", type="binary", elem_id="png")
            fill = gr.Button("Put them into the form", variant="primary", interactive=False, elem_id="png-fill")
            notes = gr.HTML(elem_id="png-notes")
        with gr.Column(scale=2):
            shown = gr.HTML(elem_id="png-shown")

    @told
    def look(data: Any) -> tuple[str, str, Any]:
        if data is None:
            return "", "", gr.update(interactive=False)
        png, said = read_info(_bytes(data), page.limits.upload)
        return _page(png, said, _bytes(data)), "", gr.update(interactive=said is not None)

    @told
    def put(name: str, data: Any) -> list[Any]:
        if data is None:
            raise ValueError("there is no picture; drop one first")
        _, said = read_info(_bytes(data), page.limits.upload)
        if said is None:
            raise ValueError("the picture says nothing of how it was made")
        loaded = page.shelf.get(name)
        facts = facts_of(loaded, page.shelf)
        if isinstance(said, Foreign):
            problems = list(said.notes)
            form = tried({"steps": facts.steps, **said.values}, page.limits, problems)
            if said.values.get("prompt") and not facts.texts:
                problems.append("it was asked for in words, which this model does not know")
        else:
            form, problems = settings_to_form(said, loaded.model, facts, beside(page.shelf, loaded), page.limits)
        shown = _shown(form, facts)
        values = [{**shown.get(each, gr.update()), "value": _sent(getattr(form, each))} for each in NAMES]
        return [*values, _noted(problems), gr.update(selected="sample")]

    file.change(look, file, [shown, notes, fill], queue=False, api_name="png_info", show_progress="hidden")
    fill.click(
        put,
        [page.model, file],
        [*sheet.components, notes, page.tabs],
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )


def read_info(data: bytes, most: int) -> tuple[PngTexts, Mapping[str, Any] | Foreign | None]:
    """What a PNG says of how it was made: our settings, those of another program, or nothing.

    Args:
        data: the whole file.
        most: bytes of it.

    Raises:
        ValueError: for what is no PNG, and settings that can't be read.
    """
    png = read_png(data, most)
    if KEY in png.texts:
        try:
            found = from_json(json.loads(png.texts[KEY]))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                "the settings in the picture can't be read: they are no JSON, or nested too deeply"
            ) from error
        if not isinstance(found, Mapping):
            raise ValueError("the settings in the picture are no names with values")
        return png, found
    if "parameters" in png.texts:
        return png, read_a1111(png.texts["parameters"])
    if "prompt" in png.texts:
        return png, read_comfy(png.texts["prompt"])
    return png, None


def _bytes(data: Any) -> bytes:
    if not isinstance(data, bytes | bytearray):
        raise ValueError("that is no file; drop one PNG")
    return bytes(data)


def _sent(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(form: Form, facts: Any) -> dict[str, Any]:
    return {
        **shown_rule(form.rule, facts), "threshold": gr.update(visible=bool(set(form.filters) & set(FILTERS))),
        "rejected": gr.update(visible=bool(form.filters)),
    }  # fmt: skip


def _page(png: PngTexts, said: Mapping[str, Any] | Foreign | None, data: bytes) -> str:
    """The picture, and what it says."""
    address = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    small = " sf-pixels" if max(png.width, png.height) <= 256 else ""
    picture = f'<img class="sf-png-picture{small}" src="{address}" alt="the picture that was dropped"/>'
    size = ("Size", f"{png.width} × {png.height}")
    if said is None:
        names = ", ".join(list(png.texts)[:8])
        more = f" It has texts of other kinds: {html.escape(names)[:200]}." if names else ""
        return f'{picture}<p class="sf-status">{size[1]} pixels. The picture says nothing of how it was made.{more}</p>'
    if isinstance(said, Foreign):
        return picture + table([("Made by", said.program), size, *said.rows])
    inner = said.get("pictures")
    pictures = [each for each in inner if isinstance(each, Mapping)] if isinstance(inner, list) else []
    return picture + table([("Made by", "Sfumato"), size, *rows_of(said)], pictures)


def _noted(problems: Sequence[str]) -> str:
    if not problems:
        return '<p class="sf-status">Everything is in the form.</p>'
    items = "".join(f"<li>{html.escape(each[:400])}</li>" for each in problems[:20])
    return f'<p class="sf-status">In the form, but for these:</p><ul class="sf-png-notes">{items}</ul>'

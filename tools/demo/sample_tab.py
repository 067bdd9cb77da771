"""The sample tab: the form, and the pictures while they are made."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import gradio as gr

from .encoded import data_uri
from .form import asked, read_form
from .parts import Page, Sheet
from .preview import preview
from .running import Done, going_on
from .sheet import form_sheet
from .told import told

__all__ = ["sample_tab"]


def sample_tab(page: Page) -> Sheet:
    """Put the tab together, within its place on the page; returns the form."""
    with gr.Row():
        with gr.Column(scale=1):
            sheet = form_sheet(page)
        with gr.Column(scale=2):
            with gr.Row():
                make = gr.Button("Sample", variant="primary", elem_id="make")
                halt = gr.Button("Stop", elem_id="stop")
            tiles, status = gr.HTML(elem_id="tiles"), gr.HTML(elem_id="status")

    @told
    def sample(request: gr.Request, name: str, *values: Any) -> Iterator[tuple[Any, str]]:
        form = read_form(values, page.limits)
        loaded = page.shelf.get(name)
        wanted = asked(form, loaded.model, page.limits)
        session = str(request.session_hash)
        flag = page.running.begin(session, "sample")
        began = time.perf_counter()

        def work(say: Any) -> Any:
            return loaded.model.sample(**wanted.arguments(), watch=say)

        try:
            for said in going_on(work, flag):
                if isinstance(said, Done):
                    if said.stopped or said.result is None:
                        yield gr.skip(), "stopped"
                    else:
                        yield _tiles(said.result.images), f"{time.perf_counter() - began:.1f} s"
                else:
                    yield _tiles(preview(loaded.model, said.x0)), f"step {said.step.index + 1} of {said.steps}"
        finally:
            page.running.end(session, "sample", flag)

    def stop(request: gr.Request) -> None:
        page.running.stop(str(request.session_hash), "sample")

    make.click(sample, [page.model, *sheet.components], [tiles, status], concurrency_id="model", concurrency_limit=1,
               api_name="sample", show_progress="hidden")  # fmt: skip
    halt.click(stop, queue=False, api_name="stop", show_progress="hidden")
    return sheet


def _tiles(x: Any) -> str:
    return "".join(f'<img width="96" style="image-rendering:pixelated" src="{data_uri(one)}">' for one in x)

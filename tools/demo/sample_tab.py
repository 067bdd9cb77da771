"""The sample tab: the form, and the pictures while they are made."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from importlib import resources
from itertools import pairwise
from typing import Any

import gradio as gr

from . import checked
from .bundle import sheet_file, zip_file
from .form import read_form
from .parts import Page, Sheet
from .remembered import remembering
from .report import failed, plain
from .sample_run import shown_while
from .sheet import form_sheet
from .tickets import Tickets
from .tiles import EMPTY
from .told import readable, told

__all__ = ["sample_tab"]

# seconds for which a visitor's last pictures are held for the ZIP
_HELD = 1800


def sample_tab(page: Page) -> Sheet:
    """Put the tab together, within its place on the page; returns the form."""
    tickets = Tickets()
    with gr.Row(elem_classes="sf-sample"):
        with gr.Column(scale=1, min_width=300):
            sheet = form_sheet(page)
            dice, reuse = sheet.dice, sheet.reuse
        with gr.Column(scale=2, min_width=300):
            with gr.Row(elem_classes="sf-small"):
                make = gr.Button("Sample", variant="primary", elem_id="make")
                halt = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False)
            waiting = gr.HTML("", elem_id="waiting", js_on_load=_script("waiting.js"), apply_default_css=False)
            status = gr.HTML("", elem_id="status", apply_default_css=False)
            tiles = gr.HTML(
                [EMPTY], elem_id="tiles", html_template='<div class="sf-tiles">${(value || []).join("")}</div>',
                js_on_load=_script("tiles.js"), apply_default_css=False,
            )  # fmt: skip
            report = gr.HTML("", elem_id="report", apply_default_css=False)
            with gr.Row(elem_classes="sf-small"):
                as_zip = gr.Button("All as ZIP", size="sm", elem_id="zip", interactive=False)
                as_sheet = gr.Button("Sheet as PNG", size="sm", elem_id="sheet", interactive=False)
    ticket = gr.Textbox("", visible=False, elem_id="ticket")
    parcel = gr.Textbox("", visible=False, elem_id="parcel")
    pictures = gr.State(None, time_to_live=_HELD)
    remembered = remembering(page, sheet)

    @told
    def begin(request: gr.Request) -> tuple[Any, ...]:
        return (
            tickets.draw(str(request.session_hash)), gr.Button(interactive=False), gr.Button(interactive=True),
            plain("Waiting for its turn"), "",
        )  # fmt: skip

    @told
    def sample(request: gr.Request, name: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        *given, number = values
        if not tickets.hand_in(checked.text(number, "ticket", 40)):
            yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
            return
        session = str(request.session_hash)
        flag, before = page.running.begin(session, "sample"), gr.skip()
        try:
            form = read_form(given, page.limits)
            for shown in shown_while(page.shelf, name, form, page.limits, flag):
                seeds = {"seeds": _shortly(shown.seeds), "count": len(shown.seeds)} if shown.seeds else gr.skip()
                if shown.tiles is None:
                    yield gr.skip(), shown.status, gr.skip(), gr.skip(), gr.skip()
                else:
                    before = [EMPTY]
                    yield shown.tiles, shown.status, shown.report, seeds, shown.pictures
        except Exception as error:  # in its place, where it stays, and told to programs
            mistake = isinstance(error, ValueError | FloatingPointError)
            words = readable(error) if mistake else "The server failed at this, and its log says where."
            # what was believed on the way to a failure is no picture
            yield before, failed(words), "", gr.skip(), gr.skip()
            raise
        finally:
            page.running.end(session, "sample", flag)

    def after(request: gr.Request, number: str, held: Any) -> tuple[Any, ...]:
        lost = isinstance(number, str) and tickets.waits(number)
        tickets.hand_in(number)
        words = plain("It was not begun, since too many are waiting. Try again in a moment.") if lost else gr.skip()
        there = gr.Button(interactive=held is not None)
        return gr.Button(interactive=True), gr.Button(interactive=False), words, there, there

    def stop(request: gr.Request) -> tuple[Any, ...]:
        session = str(request.session_hash)
        off = tickets.call_off(session)
        running = page.running.stop(session, "sample")
        # work that goes on says itself when it has stopped; words from here could come after those
        words = plain("Stopped before it began.") if off and not running else gr.skip()
        return gr.Button(interactive=True), gr.Button(interactive=False), words

    pressed = make.click(
        begin, None, [ticket, make, halt, status, report], queue=False, api_visibility="private",
        trigger_mode="multiple", show_progress="hidden",
    )  # fmt: skip
    remembered.keep(pressed)
    run = pressed.then(
        sample, [page.model, *sheet.components, ticket], [tiles, status, report, remembered.seeds, pictures], concurrency_id="model",
        concurrency_limit=1, api_name="sample", show_progress="minimal", show_progress_on=waiting, trigger_mode="multiple",
    )  # fmt: skip
    for ended in (run.then, run.failure):  # the first is not told of mistakes
        ended(after, [ticket, pictures], [make, halt, status, as_zip, as_sheet], queue=False, api_visibility="private",
              show_progress="hidden")  # fmt: skip
    halt.click(stop, None, [make, halt, status], queue=False, api_name="stop", show_progress="hidden")

    @told
    def packed(kind: str, held: Any) -> str:
        if held is None:
            raise ValueError("there are no pictures any more; sample again")
        return base64.b64encode(zip_file(held) if kind == "zip" else sheet_file(held)).decode()

    for button, kind, name in ((as_zip, "zip", "pictures.zip"), (as_sheet, "png", "sheet.png")):
        # from memory into the browser's own downloads: no file that has an address is ever written
        button.click(
            lambda held, kind=kind: packed(kind, held), pictures, parcel, queue=False, api_visibility="private", show_progress="hidden",
        ).success(None, parcel, parcel, js=_SAVE.replace("NAME", name))  # fmt: skip

    seeds, count = sheet.fields["seeds"], sheet.fields["count"]
    dice.click(lambda: "random", None, seeds, queue=False, api_visibility="private", show_progress="hidden")

    @told
    def again(last: Any) -> tuple[Any, Any]:
        if not isinstance(last, dict) or not last:
            raise ValueError("there was no run yet, so it has no seeds")
        return (
            checked.text(last.get("seeds"), "seed", 400) or "random",
            checked.whole(last.get("count"), "pictures", 1, page.limits.pictures),
        )

    reuse.click(again, remembered.seeds, [seeds, count], queue=False, api_visibility="private", show_progress="hidden")

    @told
    def take(event: gr.EventData) -> tuple[Any, Any]:
        told_of = event._data if isinstance(event._data, dict) else {}
        seed = checked.text(told_of.get("seed"), "seed", 30)
        label = checked.text(told_of.get("label"), "class", 30)
        return seed, label or gr.skip()

    for happens, shows in ((tiles.use_seed, None), (tiles.follow, "trajectory")):
        taken = happens(
            take, None, [seeds, sheet.fields["labels"]], queue=False, api_visibility="private", show_progress="hidden"
        )
        if shows is not None:
            taken.success(lambda to=shows: gr.Tabs(selected=to), None, page.tabs, queue=False, api_visibility="private",
                          show_progress="hidden")  # fmt: skip
    return sheet


_SAVE = """(text) => { if (!text) return ""; const raw = atob(text), bytes = new Uint8Array(raw.length);
for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
const link = document.createElement("a"); link.href = URL.createObjectURL(new Blob([bytes])); link.download = "NAME";
document.body.append(link); link.click(); link.remove(); setTimeout(() => URL.revokeObjectURL(link.href), 60000); return ""; }"""


def _shortly(seeds: tuple[int, ...]) -> str:
    """Seeds as the form has them: the first where the others follow it, 3,9,27 else."""
    follow = all(b == a + 1 for a, b in pairwise(seeds))
    return str(seeds[0]) if follow else ",".join(map(str, seeds))


def _script(name: str) -> str:
    return resources.files("sfumato.tools.demo").joinpath(name).read_text()

"""The compare tab: what moves, what it costs, the grid while it fills, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import gradio as gr

from .compare_desk import Desk
from .compare_grid import bar_of, grid_of
from .compare_job import Job
from .compare_moves import MOVES, NOTHING
from .compare_results import ACTIONS, large_of, results_of
from .menus import OWN, SAMPLERS
from .parts import Page, Sheet
from .slider import Slider
from .told import told

__all__ = ["compare_tab"]

EMPTY = (
    '<div class="sf-cmp-start"><p>Every combination of two settings, from the same noise, side by side.</p>'
    "<p>Choose what moves from left to right and from top to bottom, or begin with the example.</p></div>"
)
_TYPED = "(chosen) => chosen.join(', ')"
_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_MODEL: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}


def _axis(name: str, label: str, own: str, values: str, says: str, choices: list[str]) -> tuple[Any, Any, Any, Any]:
    """What moves, where to, a menu of names to write from, and what is wrong."""
    with gr.Group(elem_classes="sf-cmp-axis"):
        move = gr.Dropdown(
            [NOTHING, *MOVES] if name == "y" else list(MOVES), value=own, label=label, elem_id=f"compare-{name}"
        )
        text = gr.Textbox(values, label="Values", info=says, elem_id=f"compare-{name}-values")
        pick = gr.Dropdown(
            choices, value=[], multiselect=True, label="Choose", visible=bool(choices), elem_id=f"compare-{name}-pick"
        )
        wrong = gr.HTML(elem_id=f"compare-{name}-wrong")
    return move, text, pick, wrong


def _example() -> tuple[Any, ...]:
    """Samplers by steps."""
    x, y = MOVES["sampler"], MOVES["steps"]
    return (
        "sampler", gr.update(value=x.begin, info=x.says), gr.update(choices=[OWN, *SAMPLERS], value=[], visible=True),
        "steps", gr.update(value=y.begin, info=y.says), gr.update(choices=[], value=[], visible=False),
    )  # fmt: skip


def compare_tab(page: Page, sheet: Sheet) -> None:
    """Put the tab together, within its place on the page."""
    desk = Desk(page.shelf, page.limits, page.running)
    with gr.Row(elem_classes="sf-cmp-ask"):
        x, x_values, x_pick, x_wrong = _axis(
            "x", "From left to right", "sampler", "", MOVES["sampler"].says, [OWN, *SAMPLERS]
        )
        y, y_values, y_pick, y_wrong = _axis("y", "From top to bottom", NOTHING, "", "", [])
        with gr.Column(elem_classes="sf-cmp-more"):
            count = Slider(
                1,
                page.limits.pictures,
                min(8, page.limits.pictures),
                step=1,
                label="Pictures per cell",
                elem_id="compare-count",
            )
            sets = Slider(1, 5, 1, step=1, label="Sets of seeds", info="Three name a winner", elem_id="compare-sets")
            fine = gr.Checkbox(True, label="Distance to the fine solution", elem_id="compare-fine")
            frechet = gr.Checkbox(False, label="Frechet distance to the training pictures", elem_id="compare-frechet")
    cost = gr.HTML(elem_id="compare-cost")
    with gr.Row(elem_classes="sf-cmp-buttons"):
        make = gr.Button("Compare", variant="primary", scale=0, min_width=160, elem_id="compare-make")
        halt = gr.Button("Stop", scale=0, min_width=110, elem_id="compare-stop", interactive=False)
        example = gr.Button("Example: samplers by steps", scale=0, min_width=270, elem_id="compare-example")
    bar = gr.HTML(elem_id="compare-bar")
    show = Slider(
        1, page.limits.pictures, 1, step=1, label="Picture shown of each cell", visible=False, elem_id="compare-show"
    )
    grid = gr.HTML(EMPTY, elem_id="compare-grid", js_on_load=ACTIONS)
    large = gr.HTML(elem_id="compare-large")
    put = gr.Button("Put into the form", visible=False, elem_id="compare-put")
    results = gr.HTML(elem_id="compare-results", js_on_load=ACTIONS)
    tick = gr.State(0)
    untimed = gr.Textbox("", visible="hidden", elem_id="compare-untimed")
    own = [x, x_values, y, y_values, count, sets, fine, frechet]
    asked = [page.model, *sheet.components, *own]

    def shown(jobs: Iterator[Job | str], turn: int) -> Iterator[tuple[Any, ...]]:
        """What the page shows of a comparison that goes on: the grid only where it has changed, since it is large."""
        version, job = -1, None
        for job in jobs:
            if isinstance(job, str):
                yield (
                    gr.skip(),
                    f'<div class="sf-cmp-cost"><p>{job}</p></div>',
                    *[gr.skip()] * 5,
                    gr.update(interactive=False),
                )
                return
            first, before, version = (
                version < 0,
                version,
                job.version,
            )  # before anything is drawn, since the work goes on meanwhile
            ended = job.state != "running"
            yield (
                grid_of(job) if version != before else gr.skip(), bar_of(job),
                results_of(job) if ended else "" if first else gr.skip(), gr.skip(),
                large_of(job) if first else gr.skip(), gr.update(visible=job.picked is not None) if first else gr.skip(),
                gr.update(visible=job.pictures > 1, maximum=job.pictures) if first else gr.skip(),
                gr.update(interactive=not ended) if first or ended else gr.skip(),
            )  # fmt: skip
        if isinstance(job, Job) and job.state == "running":  # others first, then the next slice
            yield gr.skip(), gr.skip(), gr.skip(), turn + 1, *[gr.skip()] * 4

    @told
    def compare(request: gr.Request, turn: int, picture: Any, name: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        yield from shown(desk.start(str(request.session_hash), picture, name, *values), turn)

    @told
    def go_on(request: gr.Request, turn: int) -> Iterator[tuple[Any, ...]]:
        yield from shown(desk.go_on(str(request.session_hash)), turn)

    @told
    def stop(request: gr.Request) -> tuple[Any, ...]:
        said = desk.stop(str(request.session_hash))
        job = desk.jobs.get(str(request.session_hash))
        off = gr.update(interactive=False)
        return (said, gr.skip(), gr.skip(), off) if job is None else (said, grid_of(job), results_of(job), off)

    def failed(request: gr.Request) -> Any:
        job = desk.jobs.get(str(request.session_hash))
        return gr.update(interactive=job is not None and job.state == "running")

    @told
    def costs(name: str, *values: Any) -> tuple[Any, ...]:
        return desk.cost(name, *values)

    @told
    def time(name: str, pictures: Any) -> None:
        desk.time(name, pictures)

    @told
    def begin(move: Any, name: str, prompt: Any) -> tuple[Any, ...]:
        text, choices, says = desk.begin(move, name, prompt)
        return gr.update(value=text, info=says), gr.update(choices=choices, value=[], visible=bool(choices))

    @told
    def picked(request: gr.Request, event: gr.EventData) -> tuple[Any, ...]:
        data = event._data if isinstance(event._data, dict) else {}
        found, view, there = desk.pick(str(request.session_hash), data.get("row"), data.get("column"))
        return found, view, gr.update(visible=there)

    @told
    def sort(request: gr.Request, event: gr.EventData) -> Any:
        data = event._data if isinstance(event._data, dict) else {}
        return desk.sort(str(request.session_hash), data.get("sort"))

    @told
    def back(request: gr.Request) -> tuple[Any, ...]:
        form, left = desk.put(str(request.session_hash))
        if left:
            gr.Info(left)
        fields = [list(value) if isinstance(value, tuple) else value for value in asdict(form).values()]
        return (*fields, gr.Tabs(selected="sample"))

    @told
    def another(request: gr.Request, picture: Any) -> tuple[Any, Any]:
        return desk.show(str(request.session_hash), picture)

    outputs = [grid, bar, results, tick, large, put, show, halt]
    for made in (
        make.click(compare, [tick, show, *asked], outputs, api_name="compare", **_MODEL),
        tick.change(go_on, tick, outputs, api_visibility="private", **_MODEL),
    ):
        made.then(costs, asked, [cost, x_wrong, y_wrong, untimed], **_QUIET)
        made.failure(failed, None, halt, **_QUIET)  # where a mistake ends it, no last words are handed out
    halt.click(stop, None, [bar, grid, results, halt], **_QUIET)
    said = [cost, x_wrong, y_wrong, untimed]
    gr.on([each.change for each in (*own, page.model)], costs, asked, said, trigger_mode="always_last", **_QUIET)
    page.tabs.select(costs, asked, said, **_QUIET)
    untimed.change(time, [untimed, count], None, api_visibility="private", **_MODEL).then(costs, asked, said, **_QUIET)
    for move, text, pick in ((x, x_values, x_pick), (y, y_values, y_pick)):
        move.input(begin, [move, page.model, sheet.fields["prompt"]], [text, pick], **_QUIET)
        pick.input(None, pick, text, js=_TYPED, **_QUIET)
    example.click(_example, None, [x, x_values, x_pick, y, y_values, y_pick], **_QUIET)
    show.release(another, show, [grid, large], **_QUIET)
    grid.click(picked, None, [grid, large, put], **_QUIET)
    put.click(back, None, [*sheet.components, page.tabs], **_QUIET)
    results.click(sort, None, results, **_QUIET)

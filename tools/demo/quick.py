"""For whoever comes with nothing: a panel that offers to train a small model, and the model on every visitor's page when it is there."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from .encoded import data_uri
from .parts import Page
from .told import told
from .training import Stage, Training

__all__ = ["panel", "quick_panel"]

# seconds between two looks: while there is nothing to see but that another visitor may have begun, and while it is trained
_IDLE, _GOING = 3.0, 0.5


def quick_panel(app: gr.Blocks, page: Page, place: gr.Column) -> Training | None:
    """Put the panel together where the server has no model and may train one; elsewhere there is nothing.

    Args:
        app: within which this is called.
        page: of which `limits.train` says where to.
        place: for the panel.
    """
    if page.limits.train is None or page.shelf.names:
        place.visible = False
        return None
    with place:
        shown = gr.HTML(panel(Stage()), elem_id="quick-panel", apply_default_css=False)
        with gr.Row():
            begin = gr.Button("Train a small model", variant="primary", elem_id="quick-train")
            halt = gr.Button("Stop", variant="stop", elem_id="quick-stop", visible=False)
    clock = gr.Timer(_IDLE)
    seen = gr.State("")

    def done() -> None:
        """Pages that are opened from now on are those of a server that has models."""
        page.model.choices, page.model.value = [(name, name) for name in page.shelf.names], page.shelf.names[0]
        place.visible = clock.active = False
        app.config = app.get_config_file()

    training = Training(page.shelf, page.running, Path(page.limits.train), done)

    def look(before: str) -> tuple[Any, ...]:
        """The panel as it is now; what is the same as before is not sent again."""
        stage = training.stage
        now = f"{stage.state} {stage.name}"
        going, over = stage.state == "going", stage.state == "done"
        if now == before and not going:
            return (gr.skip(),) * 6
        return (
            panel(stage), gr.Button(_BEGIN.get(stage.state, ""), visible=not going and not over), gr.Button(visible=going),
            gr.Timer(_GOING if going else _IDLE, active=not over),
            gr.Dropdown(choices=page.shelf.names, value=stage.name) if over else gr.skip(), now,
        )  # fmt: skip

    @told
    def start() -> tuple[Any, ...]:
        training.start()
        return look("")

    outputs = [shown, begin, halt, clock, page.model, seen]
    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    begin.click(start, None, outputs, **quiet)
    halt.click(training.stop, None, None, **quiet)
    clock.tick(look, seen, outputs, trigger_mode="once", **quiet)
    app.load(look, seen, outputs, **quiet)
    return training


_BEGIN = {"idle": "Train a small model", "stopped": "Go on", "failed": "Try again"}


def panel(stage: Stage) -> str:
    """The panel as HTML.

    Args:
        stage: how far it is.
    """
    if stage.state == "done":
        return f'<p class="sf-quick-words" role="status">{_finished(stage)}</p>{_tiles(stage)}'
    if stage.state == "going":
        return _going(stage)
    words = "<h2>There is no model here yet</h2>"
    if stage.state == "stopped":
        where = f"at step {stage.step} of {stage.steps}" if stage.step else "before its first step"
        words += f"<p>Stopped {where}. What it has learned is saved, and it can go on from there.</p>"
    elif stage.state == "failed":
        words += f'<p class="sf-note sf-bad" role="alert">It could not be trained: {html.escape(stage.words)}</p>'
    else:
        words += (
            "<p>One that draws handwritten digits, 8 by 8 pixels, is trained in about half a minute on one core of this machine. Or name a "
            "model when you start the page: <code>sfumato demo RUN</code>, a run of your own, or a pipeline of diffusers.</p>"
        )
    return words


def _finished(stage: Stage) -> str:
    return (
        f"Trained in {stage.seconds:.0f} seconds, from step {stage.first} to {stage.steps}: <b>{html.escape(stage.name)}</b> is in the "
        "menu of models. One sample of each digit:"
    )


def _going(stage: Stage) -> str:
    """Step, loss, and how long it will take; screen readers are told the sentence, which does not change, and the bar's number."""
    share = stage.step / stage.steps if stage.steps else 0.0
    percent = f"{100 * share:.0f}"
    numbers = "Reading the digits"
    if stage.steps:
        left = "" if stage.left is None else f", about {max(1, round(stage.left))} s left"
        numbers = f"step {stage.step} of {stage.steps}, loss {stage.loss:.3f}{left}"
    return (
        '<h2 role="status">A small model is being trained</h2>'
        f'<div class="sf-bar" role="progressbar" aria-label="training" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" '
        f'style="--done:{share:.4f}"></div><p class="sf-status">{numbers}</p>'
    )


def _tiles(stage: Stage) -> str:
    if stage.pictures is None:
        return ""
    return "".join(
        f'<img class="sf-pixels" width="48" height="48" alt="a sampled {digit}" src="{data_uri(picture)}">'
        for digit, picture in enumerate(stage.pictures)
    )

"""The trajectory tab: one sample's path from noise to data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import gradio as gr

from ...guidance import Plain
from . import checked
from .facts import beside
from .form import asked, read_form
from .heard import heard
from .parts import Page, Sheet
from .path import Path, one_of, walk
from .path_pictures import side_for
from .path_view import EMPTY, still_walking, view
from .path_words import heading
from .preview import preview_of
from .running import Done, going_on
from .told import told

__all__ = ["trajectory_tab"]

KIND = "trajectory"
PAUSE = 0.2
"""Seconds between two looks at a strip that grows."""
WAITING = '<p class="sf-path-empty" role="status">Loading the model.</p>'


def trajectory_tab(page: Page, sheet: Sheet) -> None:
    """Put the tab together, within its place on the page."""
    with gr.Row(elem_id="path-settings"):
        seed = gr.Textbox(
            "", label="Seed", info="Empty: the first of the Sample tab, or a random one", elem_id="path-seed", scale=2, min_width=180,
        )  # fmt: skip
        other = gr.Checkbox(
            True, label="Beside it: unguided", info="The same noise without guidance", elem_id="path-beside", scale=2, min_width=180,
        )  # fmt: skip
        go = gr.Button("Walk the path", variant="primary", elem_id="path-walk", scale=1, min_width=120)
        halt = gr.Button("Stop", elem_id="path-stop", scale=1, min_width=80, interactive=False)
    script = resources.files("sfumato.tools.demo").joinpath("trajectory.js").read_text()
    shown = gr.HTML(EMPTY, js_on_load=script, elem_id="path")

    @told
    def trajectory(request: gr.Request, name: str, seed: Any, other: Any, *values: Any) -> Iterator[tuple[Any, Any]]:
        yield from walked(page, str(request.session_hash), name, seed, other, values)

    def stop(request: gr.Request) -> None:
        page.running.stop(str(request.session_hash), KIND)

    quiet: dict[str, Any] = {"queue": False, "api_visibility": "private", "show_progress": "hidden"}
    go.click(_may_stop, None, halt, **quiet)
    run = go.click(trajectory, [page.model, seed, other, *sheet.components], [shown, seed], concurrency_id="model",
                   concurrency_limit=1, api_name="trajectory", show_progress="hidden")  # fmt: skip
    for after in (run.then, run.failure):  # the first is not told of mistakes
        after(_ended, None, halt, **quiet)
    halt.click(stop, queue=False, api_visibility="private", show_progress="hidden")


def _may_stop() -> Any:
    return gr.Button(interactive=True)


def _ended() -> Any:
    return gr.Button(interactive=False)


@dataclass
class _Walk:
    """What is known of a walk, as soon as it is known."""

    head: str = ""
    seed: int = 0
    data_std: float | None = None
    latents: bool = False
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def walked(
    page: Page, session: str, name: object, seed: object, other: object, values: tuple[Any, ...]
) -> Iterator[tuple[Any, Any]]:
    """The path as HTML while it is walked, and the seed that was taken.

    Args:
        page: of the server.
        session: whose work this is.
        name: of the model.
        seed: of the sample, as text; "" takes the form's first.
        other: whether to walk without guidance, too.
        values: of the form.

    Raises:
        ValueError, FloatingPointError: in words.
    """
    form, wanted = read_form(values, page.limits), _seed(seed)
    twice = checked.flag(other, "beside it: unguided")
    known = _Walk()

    def work(say: Callable[[None], None]) -> None:
        loaded = page.shelf.get(name)
        model = loaded.model
        one = one_of(asked(form, model, page.limits, beside(page.shelf, loaded)), wanted)
        guided = not isinstance(one.guidance, Plain)
        names = ["guided"] * guided + ["unguided"] * (twice or not guided)
        known.head, known.seed, known.data_std = heading(one, form), one.seeds[0], model.denoiser.input_std
        known.latents = model.latents
        say(None)
        side = side_for(len(names) * 2 * (one.steps + 1))
        for each in names:
            path = Path(each, one.steps)
            known.paths.append(path)
            with heard() as found:
                walk(model, one, path, preview_of(model), side, lambda _: say(None), plain=each == "unguided")
            known.notes.extend(note for note in found if note not in known.notes)

    flag = page.running.begin(session, KIND)
    steps = going_on(work, flag, PAUSE)
    stopped = False
    try:
        yield WAITING, gr.skip()
        for said in steps:
            if isinstance(said, Done):
                stopped = said.stopped
            else:
                yield still_walking([path for path in known.paths if path.shots], known.head), str(known.seed)
        begun = [path for path in known.paths if path.shots]
        if not begun:
            yield EMPTY, gr.skip()
            return
        retry = form.rejected == "retry"
        yield view(begun, known.head, known.data_std, known.notes, retry, stopped, known.latents), str(known.seed)
    except Exception:
        # what was there belongs to other settings
        yield EMPTY, gr.skip()
        raise
    finally:
        flag.stop()
        page.running.end(session, KIND, flag)


def _seed(value: object) -> int | None:
    said = checked.text(value, "seed", 30)
    if not said:
        return None
    if not said.isascii() or not said.isdigit() or int(said) >= 2**63:
        raise ValueError(f"seed is {said!r}; allowed: one whole number from 0 to 2^63 - 1, or nothing")
    return int(said)

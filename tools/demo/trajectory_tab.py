"""The trajectory tab: one sample's path from noise to data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import gradio as gr

from ...diffusion import Model
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
from .running import Done, going_on
from .told import told

__all__ = ["trajectory_tab"]

KIND = "trajectory"


def trajectory_tab(page: Page, sheet: Sheet) -> None:
    """Put the tab together, within its place on the page."""
    with gr.Row(elem_id="path-settings"):
        seed = gr.Textbox(
            "", label="Seed", info="Empty: the first of the Sample tab, or a random one", elem_id="path-seed", scale=2, min_width=180,
        )  # fmt: skip
        other = gr.Checkbox(
            True,
            label="Beside it: unguided",
            info="The same noise without guidance",
            elem_id="path-beside",
            scale=2,
            min_width=180,
        )
        go = gr.Button("Walk the path", variant="primary", elem_id="path-walk", scale=1, min_width=120)
        halt = gr.Button("Stop", elem_id="path-stop", scale=1, min_width=80)
    script = resources.files("sfumato.tools.demo").joinpath("trajectory.js").read_text()
    shown = gr.HTML(EMPTY, js_on_load=script, elem_id="path")

    @told
    def trajectory(request: gr.Request, name: str, seed: Any, other: Any, *values: Any) -> Iterator[tuple[Any, Any]]:
        yield from walked(page, str(request.session_hash), name, seed, other, values)

    def stop(request: gr.Request) -> None:
        page.running.stop(str(request.session_hash), KIND)

    go.click(trajectory, [page.model, seed, other, *sheet.components], [shown, seed], concurrency_id="model", concurrency_limit=1,
             api_name="trajectory", show_progress="hidden")  # fmt: skip
    halt.click(stop, queue=False, api_visibility="private", show_progress="hidden")


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
    form = read_form(values, page.limits)
    unguided, wanted = checked.flag(other, "beside it: unguided"), _seed(seed)
    loaded = page.shelf.get(name)
    one = one_of(asked(form, loaded.model, page.limits, beside(page.shelf, loaded)), wanted)
    twice = unguided and not isinstance(one.guidance, Plain)
    side = side_for((2 if twice else 1) * 2 * (one.steps + 1))
    names = ["guided", "unguided"] if twice else ["guided" if not isinstance(one.guidance, Plain) else "unguided"]
    paths = [Path(each, one.steps) for each in names]
    head, notes = heading(one, form), list[str]()
    flag = page.running.begin(session, KIND)
    steps: Iterator[Any] = going_on(_work(loaded.model, one, paths, side, notes), flag, 0.2)
    try:
        stopped = False
        for said in steps:
            if isinstance(said, Done):
                stopped = said.stopped
            else:
                yield still_walking(paths[:said], head), str(one.seeds[0])
        begun = [path for path in paths if path.shots]
        if not begun:
            yield EMPTY, gr.skip()
            return
        std = loaded.model.denoiser.input_std
        yield view(begun, head, std, notes, form.rejected == "retry", stopped), str(one.seeds[0])
    finally:
        steps.close()  # pyright: ignore[reportAttributeAccessIssue]
        page.running.end(session, KIND, flag)


def _work(
    model: Model, one: Any, paths: list[Path], side: int, notes: list[str]
) -> Callable[[Callable[[int], None]], None]:
    """What is done in a thread: one walk, or two; it says how many have begun."""

    def work(say: Callable[[int], None]) -> None:
        for k, path in enumerate(paths):
            with heard() as found:
                walk(model, one, path, side, lambda _, k=k: say(k + 1), plain=k > 0)
            notes.extend(note for note in found if note not in notes)

    return work


def _seed(value: object) -> int | None:
    said = checked.text(value, "seed", 30)
    if not said:
        return None
    if not said.isascii() or not said.isdigit() or int(said) >= 2**63:
        raise ValueError(f"seed is {said!r}; allowed: one whole number from 0 to 2^63 - 1, or nothing")
    return int(said)

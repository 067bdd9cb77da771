"""The schedule tab: what `sfumato inspect` draws, while it is turned."""

from __future__ import annotations

import html
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from importlib import resources
from typing import Any

import gradio as gr

from ...diffusion.forward_check import check_forward
from ...schedules import Schedule
from ..arguments import preset_names
from ..inspect import curves
from ..inspected import Parts
from . import checked
from .knobs import menu
from .parts import Page
from .schedule_choice import BESIDE, INPUT_STD, SIZE, STEPS, Turned, as_choice, read_choice
from .schedule_source import MODEL, Source, Sources
from .schedule_words import about, as_command, as_yaml, sentences
from .svg import INK, SOFT, as_svg
from .told import readable, told

__all__ = ["schedule_tab"]

_CALLED = {
    "ZeroTerminalSNR": "no signal at the end (ZeroTerminalSNR)", "Truncated": "cut to a range (Truncated)",
    "Shifted": "moved towards noise (Shifted)", "InputScaled": "data scaled (InputScaled)",
}  # fmt: skip

_TITLES = {
    "log-SNR": "log-SNR, and the steps that sample", "alpha and sigma": "alpha and sigma", "density": "What training draws",
    "weight": "Weight of the squared error",
}  # fmt: skip


class Panels:
    """Panels as SVG; those that did not change are not drawn again, which is most of them while one slider moves."""

    def __init__(self, most: int = 64) -> None:
        self._most, self._drawn, self._lock = most, OrderedDict[str, str](), threading.Lock()

    def svg(self, panel: str, data: Mapping[str, Any], words: str) -> str:
        """One panel.

        Args:
            panel: of schedule_figure.PANELS.
            data: of inspect.curves.
            words: what it shows.
        """
        key = json.dumps([panel, words, [data[name] for name in _READS[panel]]])
        with self._lock:
            if key in self._drawn:
                self._drawn.move_to_end(key)
                return self._drawn[key]
        from ..schedule_figure import schedule_panel

        made = as_svg(schedule_panel(data, panel, INK, SOFT), words, grow=1.6)
        with self._lock:
            self._drawn[key] = made
            while len(self._drawn) > self._most:
                self._drawn.popitem(last=False)
        return made


# what of the curves a panel shows
_READS = {
    "log-SNR": ("name", "t", "log_snr", "grid", "also"), "alpha and sigma": ("t", "alpha", "sigma", "grid"),
    "density": ("density", "also", "grid"), "weight": ("weighting",),
}  # fmt: skip


def _figures(panels: Panels, turned: Turned) -> str:
    from ..schedule_figure import PANELS

    data = curves(turned.parts, turned.also)
    found = []
    for panel in PANELS:
        drawn = panels.svg(panel, data, about(panel, data, turned.parts))
        assumed = " (assumed)" if turned.assumed and panel in ("density", "weight") else ""
        found.append(f"<figure><h3>{_TITLES[panel]}{assumed}</h3>{drawn}</figure>")
    return f'<div class="sf-schedule-panels" tabindex="0" role="group" aria-label="panels">{"".join(found)}</div>'


def _box(text: str, name: str) -> str:
    shown = html.escape(text.rstrip())
    return (
        f'<div class="sf-code"><code tabindex="0" aria-label="{name}">{shown}</code>'
        '<button type="button" class="sf-copy">Copy</button></div>'
    )


def _copied(turned: Turned, source: Source) -> str:
    """The config and the command, to be copied."""
    command = as_command(turned, source.base, source.begun.parts, source.begun.elements)
    line = (
        _box(command, "command") if command else '<p class="sf-soft">Too long for a command line; take the config.</p>'
    )
    return (
        f'<h3>The same on the command line</h3>{line}<details class="sf-schedule-yaml"><summary>As a config</summary>'
        f"{_box(as_yaml(turned.parts), 'config')}</details>"
    )


def check_beside(also: tuple[Schedule, ...], parts: Parts) -> None:
    """Refuse a schedule beside the first that leads nowhere."""
    for schedule in also:
        check_forward(schedule, parts.weighting)


def schedule_tab(page: Page) -> None:
    """Put the tab together, within its place on the page."""
    sources, panels = Sources(page.shelf), Panels()
    table = {
        **menu(), "called": _CALLED, "beside": BESIDE,
        "beyond": {
            "steps": _beyond("steps", STEPS), "size": _beyond("pixels or latents along a side", SIZE),
            "input_std": {**_beyond("input_std", INPUT_STD), "off": "as its type", "start": 0.5},
        },
    }  # fmt: skip
    with gr.Row(elem_classes="sf-schedule"):
        with gr.Column(scale=1, min_width=280):
            start = gr.Dropdown([MODEL, *preset_names()], value=MODEL, label="Begin with", elem_id="schedule-source")
            reset = gr.Button("Begin again", elem_id="schedule-reset", size="sm")
            knobs = gr.HTML(
                None, html_template='<div class="sf-knobs"></div>', js_on_load=_script(), apply_default_css=False,
                elem_id="schedule-knobs", menu=table,
            )  # fmt: skip
        with gr.Column(scale=2, min_width=300):
            figures = gr.HTML('<p class="sf-empty">The schedule is drawn here.</p>', elem_id="schedule-figures")
            said = gr.HTML(elem_id="schedule-said")
            copied = gr.HTML(elem_id="schedule-copied")

    def draw(name: str | None, source: str, choice: Any) -> tuple[Any, Any, Any]:
        try:
            found = sources.get(name, checked.choice(source, "begin with", [MODEL, *preset_names()]))
            turned = read_choice(choice, found.inspected)
            check_forward(turned.parts.schedule, turned.parts.weighting)
            check_beside(turned.also, turned.parts)
            return _figures(panels, turned), f"{found.note}{sentences(turned)}", _copied(turned, found)
        except (ValueError, FloatingPointError) as error:
            return gr.skip(), _refused(error), gr.skip()

    def begin(name: str | None, source: str) -> tuple[Any, Any, Any, Any]:
        try:
            found = sources.get(name, checked.choice(source, "begin with", [MODEL, *preset_names()]))
        except (ValueError, OSError) as error:
            return gr.skip(), gr.skip(), _refused(error), gr.skip()
        choice = as_choice(found.inspected)
        return choice, *draw(name, source, choice)

    drawn = [figures, said, copied]
    knobs.input(
        told(draw), [page.model, start, knobs], drawn, queue=False, trigger_mode="always_last", api_name="schedule",
        show_progress="hidden",
    )  # fmt: skip
    # on load, and whenever either changes
    gr.on(
        None,
        told(begin),
        [page.model, start],
        [knobs, *drawn],
        queue=False,
        api_visibility="private",
        show_progress="hidden",
    )
    reset.click(
        told(begin), [page.model, start], [knobs, *drawn], queue=False, api_visibility="private", show_progress="hidden"
    )


def _beyond(label: str, knob: Any) -> dict[str, Any]:
    return {
        "name": label, "least": knob.least, "most": knob.most, "log": knob.log, "whole": knob.whole, "off": "",
    }  # fmt: skip


def _refused(error: Exception) -> str:
    """Why nothing is drawn; the figure stays that of before."""
    return (
        f'<p class="sf-note sf-bad" role="alert"><strong>This can\'t be drawn.</strong> {html.escape(readable(error))}. '
        "The figure is still the one before.</p>"
    )


def _script() -> str:
    return resources.files("sfumato.tools.demo").joinpath("schedule_knobs.js").read_text()

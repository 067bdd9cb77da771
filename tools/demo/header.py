"""What stands above the tabs: the name, the menu of models, and the switch between light and dark."""

from __future__ import annotations

import gradio as gr

from .shelf import Shelf

__all__ = ["header"]

# smoke: what is sharp at its heart has no edge
_MARK = """<svg class="sf-mark" viewBox="0 0 48 48" aria-hidden="true" focusable="false"><defs>
<radialGradient id="sf-smoke" cx=".36" cy=".34" r=".66"><stop offset="0" stop-color="var(--sf-ink)"/>
<stop offset=".3" stop-color="var(--sf-ink)" stop-opacity=".82"/><stop offset=".62" stop-color="var(--sf-accent)" stop-opacity=".5"/>
<stop offset="1" stop-color="var(--sf-accent)" stop-opacity="0"/></radialGradient></defs>
<circle cx="24" cy="24" r="24" fill="url(#sf-smoke)"/></svg>"""

_BRAND = f"""<header class="sf-head">{_MARK}<div><h1>Sfumato</h1>
<p>See what a sampler, a schedule and guidance do to a picture.</p></div></header>"""

_SWITCH = """<button type="button" class="sf-mode" aria-label="Dark page" aria-pressed="false">
<svg viewBox="0 0 20 20" aria-hidden="true" focusable="false">
<circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.6"/>
<path d="M10 3a7 7 0 0 1 0 14z" fill="currentColor"/></svg></button>"""


def header(shelf: Shelf) -> gr.Dropdown:
    """Put the header together, within its place on the page; returns the menu of models.

    Args:
        shelf: the models that can be chosen.
    """
    with gr.Row(elem_id="head"):
        gr.HTML(_BRAND, elem_id="brand")
        model = gr.Dropdown(shelf.names, value=next(iter(shelf.names), None), label="Model", elem_id="model")
        gr.HTML(_SWITCH, elem_id="mode")
    return model

"""The schedule tab."""

from __future__ import annotations

import gradio as gr

from .parts import Page

__all__ = ["schedule_tab"]


def schedule_tab(page: Page) -> None:
    """Put the tab together, within its place on the page."""
    gr.Markdown("to come")

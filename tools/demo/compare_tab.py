"""The compare tab."""

from __future__ import annotations

import gradio as gr

from .parts import Page, Sheet

__all__ = ["compare_tab"]


def compare_tab(page: Page, sheet: Sheet) -> None:
    """Put the tab together, within its place on the page."""
    gr.Markdown("to come")

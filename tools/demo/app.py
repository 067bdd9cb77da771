"""The page: what stands above the tabs, and the tabs."""

from __future__ import annotations

import gradio as gr

from .compare_tab import compare_tab
from .header import header
from .info_tab import info_tab
from .leaving import stop_who_leaves
from .limits import Limits
from .parts import Page
from .quick import quick_panel
from .running import Running
from .sample_tab import sample_tab
from .schedule_tab import schedule_tab
from .shelf import Shelf
from .trajectory_tab import trajectory_tab
from .turns import share_queue

__all__ = ["SESSIONS", "build_app"]

SESSIONS = 256
"""Visitors who are remembered."""


def build_app(shelf: Shelf, limits: Limits | None = None, running: Running | None = None) -> gr.Blocks:
    """The whole page, ready to be launched; nothing is loaded yet.

    Args:
        shelf: the models that can be chosen.
        limits: of one visitor.
        running: who is at work, for whoever stops it when the server ends.
    """
    limits = limits or Limits()
    with gr.Blocks(title="Sfumato", analytics_enabled=False, delete_cache=(600, 600)) as app:
        model = header(shelf)
        above = gr.Column(elem_id="quick")
        with gr.Tabs(elem_id="tabs") as tabs:
            page = Page(shelf, limits, running or Running(), model, tabs)
            with gr.Tab("Sample", id="sample"):
                sheet = sample_tab(page)
            with gr.Tab("Compare", id="compare"):
                compare_tab(page, sheet)
            with gr.Tab("Trajectory", id="trajectory"):
                trajectory_tab(page, sheet)
            with gr.Tab("Schedule", id="schedule"):
                schedule_tab(page)
            with gr.Tab("PNG info", id="info"):
                info_tab(page, sheet)
        stop_who_leaves(app, page.running)
        quick_panel(app, page, above)
    # Gradio keeps 0.2 MiB of every visitor until there are 10,000; the one who came longest ago begins anew when there are more than these
    app.state_session_capacity = SESSIONS
    app.queue(max_size=16, default_concurrency_limit=1, api_open=False)
    share_queue(app)
    return app

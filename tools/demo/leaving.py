"""Visitors who leave: closing or reloading the page ends what was at work for it."""

from __future__ import annotations

import gradio as gr

from .running import Running

__all__ = ["stop_who_leaves"]


def stop_who_leaves(app: gr.Blocks, running: Running) -> None:
    """Stop all work of a visitor whose connection ends.

    Gradio does so itself where a client that reads events goes away, but only when the handler has something to say again, and not while
    it is at work without a word; those who wait in the queue it takes out.

    Args:
        app: the page, within which this is called.
        running: who is at work.
    """

    def left(request: gr.Request) -> None:
        running.stop(str(request.session_hash))

    app.unload(left)

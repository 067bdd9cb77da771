"""The queue is everybody's: how much of it one visitor may take."""

from __future__ import annotations

from typing import Any

import gradio as gr

__all__ = ["MOST", "share_queue"]

MOST = 4
"""Pieces of work for which one visitor may wait at a time, of 16 places."""


def share_queue(app: gr.Blocks, most: int = MOST) -> None:
    """Refuse who waits for enough already, in words and as a full queue is told, so that 16 presses do not shut everybody else out.

    A visitor is a session, or an address where a program names none: whoever makes himself many is many. What runs does not count, and
    neither does what needs no model.

    Args:
        app: the page, whose queue is made.
        most: pieces of work that may wait.
    """
    queue: Any = app._queue
    push = queue.push

    async def bounded(body: Any, request: Any, username: Any) -> Any:
        fn = app.fns.get(body.fn_index)
        # programs that name no session get a new one for each request
        request.state.visitor = body.session_hash or f"from {request.client.host if request.client else ''}"
        if fn is not None and fn.concurrency_id == "model" and "model" in queue.event_queue_per_concurrency_id:
            waiting = [event.request.state.visitor for event in queue.event_queue_per_concurrency_id["model"].queue]
            if waiting.count(request.state.visitor) >= most:
                return False, f"Your part of the queue is full: {most} pieces of your work wait already.", "queue_full"
        return await push(body, request, username)

    queue.push = bounded

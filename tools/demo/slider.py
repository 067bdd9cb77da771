"""A slider whose number is checked where it is used."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any

import gradio as gr

__all__ = ["Slider"]


def _as_it_came(self: Any, payload: float) -> float:
    """Gradio's refuses what was typed out of range, with a traceback in the server's log; `checked` does it in words."""
    return payload


# a class statement would have Gradio write a file of types beside this one; a page shows it as the template that it is made of
Slider: type[gr.Slider] = ABCMeta.__new__(
    type(gr.Slider), "Slider", (gr.Slider,), {"preprocess": _as_it_came, "is_template": True, "__module__": __name__}
)  # fmt: skip
"""Gradio's slider, which hands on what was typed beside it."""

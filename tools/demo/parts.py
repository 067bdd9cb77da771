"""What the tabs of the page share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from .limits import Limits
from .running import Running
from .shelf import Shelf

__all__ = ["Page", "Sheet"]


@dataclass(frozen=True, eq=False)
class Page:
    """The server's side of the page, and what stands above all tabs.

    shelf: the models. limits: of one visitor. running: who is at work. model: the menu of models. tabs: of the page, to change between.
    """

    shelf: Shelf
    limits: Limits
    running: Running
    model: gr.Dropdown
    tabs: gr.Tabs


@dataclass(frozen=True, eq=False)
class Sheet:
    """The form as components, one per field of `Form` in the order of `NAMES`, so that other tabs may read and fill it.

    fields: by name. opened: the event by which the form has met the model when the page is opened, to go on from. dice, reuse: the
    buttons at the seed.
    """

    fields: dict[str, Any]
    opened: Any = None
    dice: Any = None
    reuse: Any = None

    @property
    def components(self) -> list[Any]:
        """In the order of `NAMES`."""
        return list(self.fields.values())

"""How the page looks: the theme, and the style sheets that lie beside this file."""

from __future__ import annotations

from importlib import resources

from gradio.themes import Base

from ..page import PALETTE

__all__ = ["css", "theme"]

FONT = ["system-ui", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif"]
MONO = ["ui-monospace", "DejaVu Sans Mono", "monospace"]


def theme() -> Base:
    """The theme; its letters are those of the visitor's system, since a page that fetches some tells a third party who looks."""
    return Base(primary_hue="blue", neutral_hue="zinc", font=FONT, font_mono=MONO)


def css() -> str:
    """All style sheets, with the colours of figures as --sf-1, --sf-2, ... and the letters as --sf-font."""
    colours = "".join(f"--sf-{i + 1}:{colour};" for i, colour in enumerate(PALETTE))
    here = resources.files("sfumato.tools.demo")
    sheets = sorted(f.name for f in here.iterdir() if f.name.endswith(".css"))
    texts = [here.joinpath(name).read_text() for name in sheets]
    return "\n".join([f":root{{{colours}--sf-font:{','.join(FONT)};}}", *texts])

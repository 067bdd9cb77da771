"""Figures as SVG within the page: their ink is the page's own, so that they are read on light and on dark."""

from __future__ import annotations

import hashlib
import html
import io
import re
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "SOFT", "as_svg"]

INK, SOFT = "#010203", "#040506"
"""Colours that stand for the page's ink, and its softer one for axes and grids; figures are drawn with them."""

# matplotlib's settings are those of the process: two visitors' figures must not meet in them
_ONE = threading.Lock()

_COLOURS = {INK: "currentColor", "#000000": "currentColor", SOFT: "var(--sf-soft)"}


def as_svg(figure: Figure, about: str, grow: float = 1.0) -> str:
    """A figure of matplotlib as an SVG element that fills the width it is given.

    Nothing in it reaches beyond it: its names are its own, however many figures a page has, its style sheet is no style sheet of the
    page, and it holds no script and no address. The same figure is the same text.

    Args:
        figure: drawn with `INK` and `SOFT` where black and grey would be, and the colours of `PALETTE`; its background is left out.
        about: what it shows, for those who can't see it.
        grow: how many times as wide as it was drawn it may become, its letters with it.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with _ONE, mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sf"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # whose picture it is, and rules for `*`, which would hold for all of the page: both are said below, on the element itself
    text = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'style="[^"]*"', _style, text)
    text = _named(text, hashlib.sha256(f"{about}\0{text}".encode()).hexdigest()[:8])
    head, rest = text[: text.index(">")], text[text.index(">") :]
    size, box = re.search(r'width="([\d.]+)pt"', head), re.search(r'viewBox="[^"]*"', head)
    assert size is not None
    assert box is not None
    style = f"width:100%;max-width:{float(size[1]) * 4 / 3 * grow:.0f}px;stroke-linejoin:round;stroke-linecap:butt"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="sf-figure" role="img" '
        f'aria-label="{html.escape(about, quote=True)}" {box[0]} style="{style}"{rest.rstrip()}'
    )


def _style(found: re.Match[str]) -> str:
    """One style, in the page's colours and letters."""
    style = found[0]
    for drawn, shown in _COLOURS.items():
        style = style.replace(drawn, shown)
    style = re.sub(r"font-family: [^;\"]*", "font-family: var(--sf-font)", style)
    return re.sub(r"font: (?:[a-z0-9]+ )*([\d.]+)px [^;\"]*", r"font: \1px var(--sf-font)", style)


def _named(text: str, prefix: str) -> str:
    """What is referred to under names that no other figure has; what is not needs none."""
    used = set(re.findall(r'(?:url\(#|href="#)([\w.-]+)', text))
    text = re.sub(r' id="([\w.-]*)"', lambda found: f' id="sf{prefix}-{found[1]}"' if found[1] in used else "", text)
    return re.sub(r'(url\(#|href="#)([\w.-]+)', rf"\1sf{prefix}-\2", text)

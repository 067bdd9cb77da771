"""Figures as SVG within the page: their ink is the page's own, so that they are read on light and on dark."""

from __future__ import annotations

import html
import io
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["INK", "SOFT", "as_svg"]

INK, SOFT = "#010203", "#040506"
"""Colours that stand for the page's ink, and its softer one for axes and grids; figures are drawn with them."""


def as_svg(figure: Figure, about: str) -> str:
    """A figure of matplotlib as an SVG element that fills the width it is given.

    Args:
        figure: drawn with `INK` and `SOFT` where black and grey would be, and the colours of `PALETTE`; its background is left out.
        about: what it shows, for those who can't see it.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": about}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace(INK, "currentColor").replace(SOFT, "var(--sf-soft)")
    # letters are the page's own
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sf-font)", text)
    size = re.search(r'width="([\d.]+)pt"', text)
    width = f"{float(size[1]) * 4 / 3:.0f}px" if size else "100%"
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"([^>]*?) height="[^"]*"', r"\1\2", text, count=1)
    label = html.escape(about, quote=True)
    return text.replace(
        "<svg", f'<svg class="sf-figure" role="img" aria-label="{label}" style="width:100%;max-width:{width}"', 1
    )

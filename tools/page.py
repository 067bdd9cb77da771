"""A report as one HTML file, with its pictures inside: nothing is fetched when it is opened, and it can be sent by mail."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from ..diffusion.whole_file import replace_text

__all__ = ["PALETTE", "Page"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Lines and marks of all figures: Okabe & Ito's colours, told apart by colour-blind readers; the order is that of use."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #6b6b70; --line: #d9d9de; --back: #fcfcfa; --mark: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececee; --soft: #a0a0a8; --line: #3a3a40; --back: #161618; --mark: #3c3420; } }
body { margin: 2.5rem auto; max-width: 66rem; padding: 0 1.2rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-weight: 600; font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-weight: 600; font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { max-width: 48rem; } p.soft, figcaption, td.soft { color: var(--soft); } figcaption { font-size: .9rem; max-width: 48rem; }
figure { margin: 1rem 0; } .wide { overflow-x: auto; }
img { max-width: 100%; border-radius: 3px; background: white; } img.pixels { image-rendering: pixelated; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } tr.mark td { background: var(--mark); }
code, pre { font: .88rem ui-monospace, "DejaVu Sans Mono", monospace; }
pre { overflow-x: auto; padding: .7rem; border: 1px solid var(--line); }
"""


class Page:
    """A report that is put together from the top; every text is escaped.

    Args:
        title: its heading.
        about: a sentence below it; empty: none.
    """

    def __init__(self, title: str, about: str = "") -> None:
        self._title, self._parts = title, [f"<h1>{html.escape(title)}</h1>"]
        if about:
            self._parts.append(f'<p class="soft">{html.escape(about)}</p>')

    def heading(self, text: str) -> None:
        """A section begins."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, soft: bool = False) -> None:
        """A paragraph; `soft`: a remark."""
        self._parts.append(f"<p{' class=soft' if soft else ''}>{html.escape(text)}</p>")

    def code(self, text: str) -> None:
        """A command, or other lines as they are."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]], marked: Sequence[int] = ()) -> None:
        """Rows of cells.

        Args:
            head: names of the columns.
            rows: each as long as `head`; cells are shown by str().
            marked: which rows stand out.
        """
        lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in head) + "</tr>"]
        for i, row in enumerate(rows):
            cells = "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row)
            lines.append(f"<tr{' class=mark' if i in marked else ''}>{cells}</tr>")
        self._parts.append(f'<div class="wide"><table>{"".join(lines)}</table></div>')

    def picture(self, picture: Image.Image | Path, caption: str = "", pixels: bool = False) -> None:
        """A picture, held in the page.

        Args:
            picture: or a PNG file.
            caption: below it, and for those who can't see it.
            pixels: whether its pixels stay sharp when it is enlarged.
        """
        if isinstance(picture, Path):
            data = picture.read_bytes()
        else:
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            data = buffer.getvalue()
        source = base64.b64encode(data).decode()
        below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
        kind = ' class="pixels"' if pixels else ""
        self._parts.append(
            f'<figure><div class="wide"><img{kind} alt="{html.escape(caption)}" src="data:image/png;base64,{source}"></div>{below}</figure>'
        )

    def write(self, path: Path) -> None:
        """The whole page, written whole or not at all."""
        body = "\n".join(self._parts)
        replace_text(
            path,
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(self._title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n",
        )

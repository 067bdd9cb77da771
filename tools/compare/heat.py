"""One measure over the cells of a comparison, as a shaded table."""

from __future__ import annotations

import math

from PIL import Image

from ...diffusion.measuring import Spread
from ..page import PALETTE
from .layout import BOX, INK, SOFT, Layout
from .lettering import font, height_of, short, write
from .table import Table

__all__ = ["draw_heat"]

# from the worst to the best, whose text is white
_WORST, _BEST = (247, 249, 251), (0, 100, 160)


def draw_heat(table: Table, key: str, heading: str, about: str) -> Image.Image | None:
    """Darker is better; a frame is the winner of its row (of all, where there is one row), where it is told apart.

    Args:
        table: of the outcomes.
        key: of a measure that knows what is better.
        heading, about: above it.

    Returns:
        None, where fewer than two cells have a number.
    """
    own = {id(o): Spread(tuple(o.measured[key])) for o in table.outcomes if key in o.measured and o.state == "made"}
    finite = [spread.mean for spread in own.values() if math.isfinite(spread.mean)]
    if len(finite) < 2:
        return None
    better = next(m.better for m in table.measures if m.key == key)
    # numbers of several magnitudes would be two shades only
    logs = min(finite) > 0 and max(finite) / min(finite) > 5
    ends = [math.log(v) if logs else v for v in (min(finite), max(finite))]
    several = any(len(o.measured.get(key, ())) > 1 for o in table.outcomes)
    layout = Layout(table, 116, 46 if several else 34, 0, heading, about)
    sheet, draw = layout.sheet()
    for o in table.outcomes:
        x, y = layout.corner(o.cell.row, o.cell.column)
        box, middle = (x, y, x + layout.width - 1, y + layout.height - 1), x + layout.width / 2
        spread = own.get(id(o))
        if spread is None or not math.isfinite(spread.mean):
            words = {"diverged": "diverged", "unsupported": "not possible"}.get(o.state, "not comparable")
            draw.rectangle(box, fill=BOX)
            write(draw, (middle, y + (layout.height - height_of(1, font(12))) / 2), [words], font(12), SOFT)
            continue
        value = math.log(spread.mean) if logs else spread.mean
        at = 0.5 if ends[0] == ends[1] else (value - ends[0]) / (ends[1] - ends[0])
        good = at if better == "higher" else 1 - at
        draw.rectangle(box, fill=tuple(round(a + (b - a) * good) for a, b in zip(_WORST, _BEST, strict=True)))
        lines = [short(spread.mean), *([f"± {spread.std:.2g}"] if several else [])]
        top = y + (layout.height - height_of(len(lines), font(14))) / 2
        write(draw, (middle, top), lines, font(14), "white" if good > 0.45 else INK)
        if (table.winner(key, row=o.cell.row) if len(table.x) > 1 else table.winner(key)) is o:
            draw.rectangle((x - 4, y - 4, box[2] + 4, box[3] + 4), outline=PALETTE[4], width=4)
    return sheet

"""The picture of a comparison: the same seeds in every cell, under the names of its axes."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from .layout import BOX, INK, LARGEST, SOFT, WARN, Layout
from .lettering import font, height_of, short, width_of, wrapped, write
from .outcome import Outcome
from .table import Table

__all__ = ["draw_sheet"]


def draw_sheet(table: Table, title: str, about: str, show: int = 4, tile: int | None = None) -> Image.Image:
    """The cells as a labelled grid; a cell that could not be sampled is a grey box with the reason, one that diverged has a frame.

    Args:
        table: of the outcomes.
        title: a few words.
        about: what all cells share.
        show: pictures per cell, of the first seeds, 1 to 4.
        tile: width of one picture in pixels; None: what suits the pictures and the number of cells.
    """
    shapes = [tuple(o.pictures.shape[2:]) for o in table.outcomes if o.pictures is not None]
    height, width = shapes[0] if shapes else (64, 64)
    across = show if show < 4 else 2
    down = math.ceil(show / across)
    side = _side(tile, (height, width), (across * len(table.x), down * len(table.y)))
    size = (side, round(side * height / width))
    inner = (across * (side + 2) - 2, down * (size[1] + 2) - 2)
    # no narrower than a caption, nor than short names of columns
    least = max(104, min(max(width_of(name, font(15)) for name in table.x.labels), 150))
    lines = max((len(_caption(o)) + len(_remark(o, max(inner[0], least))) for o in table.outcomes), default=0)
    layout = Layout(table, max(inner[0], least), inner[1], lines, title, about)
    sheet, draw = layout.sheet()
    for o in table.outcomes:
        x, y = layout.corner(o.cell.row, o.cell.column)
        middle, left = x + layout.width / 2, x + (layout.width - inner[0]) // 2
        if o.pictures is None:
            _box(draw, (x, y, layout.width, inner[1]), o)
            continue
        for i in range(min(show, len(o.pictures))):
            at = (left + (i % across) * (side + 2), y + (i // across) * (size[1] + 2))
            _picture(sheet, draw, o, i, at, size)
        caption = _caption(o)
        write(draw, (middle, y + inner[1] + 5), caption, font(12), SOFT)
        if o.state == "diverged":
            draw.rectangle((left - 4, y - 4, left + inner[0] + 3, y + inner[1] + 3), outline=WARN, width=2)
            remark = _remark(o, layout.width)
            write(draw, (middle, y + inner[1] + 5 + height_of(len(caption), font(12))), remark, font(12), WARN)
    return sheet


def _side(tile: int | None, shape: tuple[int, int], pictures: tuple[int, int]) -> int:
    """Width of a picture: small ones are enlarged by whole pixels, large ones reduced, and all fit the largest side."""
    height, width = shape
    if tile is None:
        tile = 64 if width <= 64 else min(width, max(1600 // pictures[0], 128))
    room = min((LARGEST - 300) // pictures[0], int((LARGEST - 300) * width / height) // pictures[1])
    tile = max(min(tile, room - 60 if room > 120 else room), 4)
    return width * (tile // width) if width <= tile else tile


def _picture(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, o: Outcome, i: int, at: tuple[int, int], size: tuple[int, int]
) -> None:
    assert o.pictures is not None
    if o.pictured is not None and not bool(o.pictured[i]):
        right, bottom = at[0] + size[0] - 1, at[1] + size[1] - 1
        draw.rectangle((*at, right, bottom), fill=BOX)
        draw.line((*at, right, bottom), fill=WARN)
        draw.line((at[0], bottom, right, at[1]), fill=WARN)
        return
    pixels = o.pictures[i].movedim(0, -1).numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
    how = Image.Resampling.NEAREST if size[0] >= image.width else Image.Resampling.LANCZOS
    sheet.paste(image.resize(size, how).convert("RGB"), at)


def _box(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], o: Outcome) -> None:
    """Why there are no pictures."""
    x, y, width, height = box
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=BOX)
    small = font(11)
    lines = wrapped(o.problem, width - 12, small, max((height - 8) // height_of(1, small) - 2, 1))
    top = y + (height - height_of(len(lines), small) - height_of(1, font(12))) / 2
    write(draw, (x + width / 2, top), ["diverged" if o.state == "diverged" else "not possible"], font(12), INK)
    write(draw, (x + width / 2, top + height_of(1, font(12)) + 2), lines, small, SOFT)


def _caption(o: Outcome) -> list[str]:
    """What stands below a cell."""
    if "evaluations" not in o.measured:
        return []
    mean = {key: sum(values) / len(values) for key, values in o.measured.items()}
    lines = [f"{mean['evaluations']:.4g} evaluations"]
    lines += [f"distance {short(mean['distance'])}"] if "distance" in mean else []
    lines += [f"Frechet {short(mean['frechet'])}"] if "frechet" in mean else []
    lines += [f"{mean['rejected']:.0%} rejected"] if "rejected" in mean else []
    return lines


def _remark(o: Outcome, width: int) -> list[str]:
    return wrapped(o.problem, width, font(12), 3) if o.state == "diverged" and o.pictures is not None else []

"""Where things are in the picture of a comparison: title, names of the axes, labels of columns and rows, cells."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..page import PALETTE
from .lettering import font, height_of, width_of, wrapped, write
from .table import Table

__all__ = ["BOX", "INK", "LARGEST", "SOFT", "WARN", "Layout"]

INK, SOFT, BOX, WARN = "#1c1c1e", "#6b6b70", "#e9e9ec", PALETTE[1]
LARGEST = 6000
"""A side of the whole picture in pixels, beyond which viewers and mail fail."""

_MARGIN, _GAP = 20, 12
_LABEL, _SMALL, _TITLE = 15, 12, 20
# of a title, so that it is readable above a single column
_NARROWEST = 420


@dataclass(frozen=True)
class Layout:
    """The frame of a labelled grid.

    Args:
        table: whose rows and columns.
        width, height: of what a cell shows, in pixels.
        lines: of small text below each.
        title, about: above the whole, wrapped.
    """

    table: Table
    width: int
    height: int
    lines: int
    title: str
    about: str

    @property
    def below(self) -> int:
        """Pixels below a cell."""
        return height_of(self.lines, font(_SMALL)) + 8 * bool(self.lines)

    @property
    def _left(self) -> int:
        names = [*self.table.y.labels, self.table.y.name]
        widest = min(max(width_of(name, font(_LABEL)) for name in names), 190)
        return widest + 16 if widest else 0

    @property
    def _head(self) -> int:
        """Height of the columns' labels, and the line above them."""
        return height_of(max(map(len, self._columns)), font(_LABEL)) + height_of(1, font(_SMALL)) + 14

    @property
    def _columns(self) -> list[list[str]]:
        return [wrapped(name, self.width, font(_LABEL), 6) for name in self.table.x.labels]

    @property
    def _whole(self) -> int:
        """Width without margins."""
        return max(self._left + len(self.table.x) * (self.width + _GAP) - _GAP, _NARROWEST)

    @property
    def _words(self) -> tuple[list[str], list[str]]:
        return wrapped(self.title, self._whole, font(_TITLE), 3), wrapped(self.about, self._whole, font(_SMALL), 8)

    @property
    def _top(self) -> int:
        title, about = self._words
        return _MARGIN + height_of(len(title), font(_TITLE)) + 4 + height_of(len(about), font(_SMALL)) + 14

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """x and y of a cell."""
        return (
            _MARGIN + self._left + column * (self.width + _GAP),
            self._top + self._head + row * (self.height + self.below + _GAP),
        )

    def sheet(self) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """A white sheet with everything but the cells."""
        bottom = self.corner(len(self.table.y), 0)[1]
        sheet = Image.new("RGB", (self._whole + 2 * _MARGIN, bottom - _GAP + _MARGIN), "white")
        draw = ImageDraw.Draw(sheet)
        title, about = self._words
        write(draw, (_MARGIN, _MARGIN), title, font(_TITLE), INK, "l")
        write(draw, (_MARGIN, _MARGIN + height_of(len(title), font(_TITLE)) + 4), about, font(_SMALL), SOFT, "l")
        left, top = self.corner(0, 0)
        middle = left + (len(self.table.x) * (self.width + _GAP) - _GAP) / 2
        write(draw, (middle, self._top), [self.table.x.name], font(_SMALL), SOFT)
        if self.table.y.keys:
            write(draw, (left - 16, top - 6 - height_of(1, font(_SMALL))), [self.table.y.name], font(_SMALL), SOFT, "r")
        for j, lines in enumerate(self._columns):
            x, _ = self.corner(0, j)
            write(draw, (x + self.width / 2, top - 6 - height_of(len(lines), font(_LABEL))), lines, font(_LABEL), INK)
        for i, name in enumerate(self.table.y.labels):
            lines = wrapped(name, self._left - 14, font(_LABEL), 6) if name else []
            y = self.corner(i, 0)[1] + (self.height - height_of(len(lines), font(_LABEL))) / 2
            write(draw, (left - 16, y), lines, font(_LABEL), INK, "r")
        return sheet, draw

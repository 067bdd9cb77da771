"""Text in pictures: wrapped to a width, and no longer than it is said to be."""

from __future__ import annotations

from typing import Any

from PIL import ImageDraw, ImageFont

__all__ = ["Font", "font", "height_of", "short", "width_of", "wrapped", "write"]

Font = Any


def font(size: int) -> Font:
    """The letters of every picture.

    Args:
        size: in pixels.
    """
    return ImageFont.load_default(size)


def width_of(text: str, letters: Font) -> int:
    """Pixels of the longest line."""
    return max((int(letters.getlength(line)) + 1 for line in text.splitlines()), default=0)


def height_of(lines: int, letters: Font) -> int:
    """Pixels of so many lines."""
    return round(lines * letters.size * 1.25)


def wrapped(text: str, width: int, letters: Font, most: int = 6) -> list[str]:
    """A text in lines of at most `width` pixels, broken at blanks and after signs, or within a word that is too long; "…" ends what is cut.

    Args:
        text: any.
        width: in pixels.
        letters: the font.
        most: lines.
    """
    lines: list[str] = []
    line = ""
    for word in _words(text):
        if not line or letters.getlength(line + word.rstrip()) <= width:
            line += word
        else:
            lines.append(line.rstrip())
            line = word.lstrip()
        while letters.getlength(line.rstrip()) > width and len(line) > 1:
            end = next((i for i in range(len(line) - 1, 0, -1) if letters.getlength(line[:i]) <= width), 1)
            lines.append(line[:end])
            line = line[end:]
    lines.append(line.rstrip())
    lines = [each for each in lines if each]
    if len(lines) > most:
        last = lines[most - 1]
        while last and letters.getlength(f"{last}…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], f"{last}…"]
    return lines


def _words(text: str) -> list[str]:
    """Pieces that a line may be broken between."""
    pieces, begin = [], 0
    clean = " ".join(text.split())
    for i, sign in enumerate(clean):
        if sign in " ,(=:;/" and i + 1 < len(clean) and not (sign == "," and clean[i + 1] == " "):
            pieces.append(clean[begin : i + 1])
            begin = i + 1
    return [*pieces, clean[begin:]]


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], lines: list[str], letters: Font, fill: str, anchor: str = "m"
) -> None:
    """Lines one below the other.

    Args:
        draw: on what.
        at: x and the top.
        lines: of text.
        letters: the font.
        fill: a colour.
        anchor: "l" (x is their left end), "m" (middle) or "r".
    """
    for i, line in enumerate(lines):
        draw.text((at[0], at[1] + height_of(1, letters) * i), line, fill=fill, font=letters, anchor=f"{anchor}a")


def short(value: float) -> str:
    """A number in three digits."""
    if 1e3 <= abs(value) < 1e5:
        return f"{value:.0f}"
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1e3 or value == 0 else f"{value:.1e}"

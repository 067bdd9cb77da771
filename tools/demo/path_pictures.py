"""The pictures along a path: small enough that all of them lie in the page at once."""

from __future__ import annotations

import math

from PIL import Image
from torch import Tensor

from .encoded import as_image, data_uri

__all__ = ["address", "laid_out", "side_for", "smaller"]

PIXELS = 6_000_000
"""Of all pictures of a page together. Noise, which compresses worst, is about a byte for each, and a third more as text."""

LARGEST = 256
"""Side of a picture in pixels at most."""


def side_for(count: int) -> int:
    """The side of each picture, in pixels at most, where so many are shown."""
    return max(16, min(LARGEST, int(math.sqrt(PIXELS / max(count, 1)))))


def smaller(picture: Tensor, side: int) -> Image.Image:
    """The first picture of a batch, with no side longer than that."""
    image = as_image(picture[0])
    longest = max(image.size)
    if longest <= side:
        return image
    w, h = (max(1, round(v * side / longest)) for v in image.size)
    return image.resize((w, h), Image.Resampling.BOX)


def address(image: Image.Image) -> str:
    """A picture as its own address: small ones to the last bit, others nearly."""
    return data_uri(image, kind="png" if max(image.size) <= 32 else "webp")


def laid_out(count: int, most: int = 12) -> list[int]:
    """Which of some frames are laid out side by side: every k-th, both ends included.

    Args:
        count: of frames, >= 1.
        most: that are laid out, >= 2.
    """
    if count <= most:
        return list(range(count))
    every = math.ceil((count - 1) / (most - 1))
    # counted from the end, where paths differ least, so that the finished picture has its place
    found = sorted({0, *range(count - 1, -1, -every)})
    if len(found) > 2 and found[1] < every / 2:  # two beginnings would stand side by side
        found.pop(1)
    return found

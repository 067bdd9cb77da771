"""What is on a picture of Simple Shapes, counted without anybody looking: and whether such a picture can be in the data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .shapes import KINDS, template

__all__ = ["WRONG", "Found", "components", "count_shapes", "overlap"]

# the ways in which a picture can be outside of the data; one picture may be wrong in several
WRONG = ("repeat", "column", "malformed", "empty")
# least overlap, intersection over union, of a component with the best of the three shapes
SAME = 0.8


@dataclass(frozen=True)
class Found:
    """What is on pictures, one entry per picture.

    components: connected parts, int64 (N,). shapes: of each of KINDS, int64 (N, 3). repeat: two or more of a kind; column: a shape in
    the column of another; malformed: a part that is none of the three; empty: no part; each bool (N,).
    """

    components: Tensor
    shapes: Tensor
    repeat: Tensor
    column: Tensor
    malformed: Tensor
    empty: Tensor

    @property
    def any(self) -> Tensor:
        """Whether a picture can't be in the data, bool (N,)."""
        return self.repeat | self.column | self.malformed | self.empty


def components(ink: Tensor) -> Tensor:
    """Connected parts of pixels, neighbours across corners included: int64 like ink (N, H, W), 0 where there is none; parts of a
    picture have different numbers, not necessarily 1, 2, ..."""
    _, height, width = ink.shape
    own = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, height, width)
    label = own * ink
    while True:
        # the largest number of a part spreads over it
        spread = F.max_pool2d(label[:, None], 3, 1, 1)[:, 0] * ink
        if torch.equal(spread, label):
            return label.long()
        label = spread


@cache
def _templates(size: int) -> tuple[Tensor, ...]:
    return tuple(template(kind, size) for kind in KINDS)


def overlap(part: Tensor, shape: Tensor) -> float:
    """Intersection over union of two sets of pixels at the best of the places where their boxes overlap; bool (h, w) each."""
    height, width = shape.shape
    padded = F.pad(part.float(), (width - 1, width - 1, height - 1, height - 1))
    common = float(F.conv2d(padded[None, None], shape.float()[None, None]).max())
    return common / (float(part.sum()) + float(shape.sum()) - common)


def count_shapes(x: Tensor) -> Found:
    """Count what is on pictures of size 32 or 64.

    Args:
        x: (N, 1, size, size); a pixel above 0 is ink.
    """
    ink = x[:, 0] > 0
    size = ink.shape[-1]
    labels = components(ink)
    number, shapes = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), len(KINDS), dtype=torch.int64)
    column, malformed = torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x), dtype=torch.bool)
    for i, picture in enumerate(labels):
        for label in picture.unique().tolist():
            if not label:
                continue
            number[i] += 1
            part = picture == label
            y, x_ = part.nonzero().T
            box = part[int(y.min()) : int(y.max()) + 1, int(x_.min()) : int(x_.max()) + 1]
            alike = [overlap(box, shape) for shape in _templates(size)]
            kind = max(range(len(KINDS)), key=lambda k: alike[k])
            if alike[kind] < SAME:
                malformed[i] = True
                continue
            shapes[i, kind] += 1
            column[i] |= int(x_.double().mean() // (size // 3)) != kind
    return Found(number, shapes, (shapes > 1).any(1), column, malformed, number == 0)

"""Simple Shapes: a triangle, a square and a pentagon, each in its own column or absent; never two of a kind, never none."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from ...diffusion import Batch
from ...schedules.noise import Stream, check_seeds, uniform

__all__ = ["AREAS", "KINDS", "Shapes", "canvas", "drawn", "planted", "template"]

KINDS = ("triangle", "square", "pentagon")  # by column
# the area that the sides are computed from, by the size of the picture: the paper's, and one that leaves 32 pixels shapes to tell apart
AREAS = {64: 60, 32: 24}
# how far outside its polygon a pixel's centre still belongs to a shape: half of the outline that is drawn around it
OUTLINE = 0.36


def _corners(kind: str, area: int) -> Tensor:
    """The corners of a shape of about an area, clockwise as seen (y points down), float64 (corners, 2) as (x, y)."""
    if kind == "square":
        side = int(math.sqrt(area))
        return torch.tensor([[0, 0], [side, 0], [side, side], [0, side]], dtype=torch.float64)
    if kind == "triangle":  # points down
        side = int(math.sqrt(4 * area / math.sqrt(3)))
        return torch.tensor([[0, 0], [side, 0], [side / 2, side * math.sqrt(3) / 2]], dtype=torch.float64)
    radius = int(math.sqrt(4 * area / math.sqrt(5 * (5 + 2 * math.sqrt(5)))))
    angle = 2 * math.pi * torch.arange(5, dtype=torch.float64) / 5 - math.pi / 2
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


@cache
def template(kind: str, size: int) -> Tensor:
    """The pixels of a shape, bool (height, width), cut to its box.

    Args:
        kind: of KINDS.
        size: of the picture, 32 or 64.
    """
    corners = _corners(kind, AREAS[size])
    side = corners.roll(-1, 0) - corners
    outward = torch.stack([side[:, 1], -side[:, 0]], 1) / side.norm(dim=1, keepdim=True)
    at = torch.arange(-size, size, dtype=torch.float64)
    y, x = torch.meshgrid(at, at, indexing="ij")
    away = (torch.stack([x, y], -1)[..., None, :] - corners) * outward
    inside = (away.sum(-1) <= OUTLINE).all(-1)
    rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
    return inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def canvas(size: int) -> tuple[int, int]:
    """Height and width of a column; what is left of a picture, at the bottom and on the right, stays empty."""
    return size - 1, size // 3


def _free(kind: str, size: int) -> tuple[int, int]:
    """How many rows and columns a shape's first pixel can be in."""
    height, width = canvas(size)
    return height - template(kind, size).shape[0], width - template(kind, size).shape[1]


def _put(x: Tensor, which: Tensor, kind: str, top: Tensor, left: Tensor) -> None:
    """Draw a shape on some pictures (N, size, size): which, bool (N,); top and left, within its column, int64 (N,)."""
    shape = template(kind, x.shape[-1])
    index, (y, across) = which.nonzero(), shape.nonzero().T
    start = KINDS.index(kind) * canvas(x.shape[-1])[1]
    x[index, top[index] + y, start + left[index] + across] = 1.0


def _places(seeds: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which shapes are there, bool (N, 3), and where each would be: top and left, within its column, int64 (N, 3)."""
    u = uniform(seeds, 0, 0, 7, Stream.SAMPLE)
    # drawing again until there is a shape leaves seven pictures, equally often
    which = (u[:, 0] * 7).long() + 1
    there = torch.stack([(which >> k & 1).bool() for k in range(3)], 1)
    free = torch.tensor([_free(kind, size) for kind in KINDS])
    return there, 1 + (u[:, 1::2] * free[:, 0]).long(), 1 + (u[:, 2::2] * free[:, 1]).long()


def drawn(seeds: Tensor, size: int = 64) -> tuple[Tensor, Tensor]:
    """Pictures, each a function of its seed.

    Every shape is there with probability 1/2, but for pictures without any, which are drawn again; its place is uniform among those
    within its column, whose first row and column stay free so that shapes never touch.

    Args:
        seeds: int64 (N,).
        size: 64 or 32, pixels.

    Returns:
        float32 (N, 1, size, size), -1 or 1, and which shapes are there, bool (N, 3).
    """
    there, top, left = _places(seeds, size)
    x = torch.full((len(seeds), size, size), -1.0)
    for k, kind in enumerate(KINDS):
        _put(x, there[:, k], kind, top[:, k], left[:, k])
    return x[:, None], there


def planted(seeds: Tensor, size: int = 64) -> Tensor:
    """Hallucinations that are perfectly drawn: the pictures of `drawn`, with a second copy of one of their shapes in its column.

    Args:
        seeds: int64 (N,).
        size: 64 or 32, pixels.

    Returns:
        float32 (N, 1, size, size), -1 or 1. The copies never touch.
    """
    there, top, _ = _places(seeds, size)
    x = drawn(seeds, size)[0][:, 0]
    u = uniform(seeds, 0, 0, 2, Stream.SAMPLE, draw=1)
    again = (there * uniform(seeds, 0, 0, 3, Stream.SAMPLE, draw=2)).argmax(1)  # one of those that are there
    for k, kind in enumerate(KINDS):
        height, (rows, columns) = template(kind, size).shape[0], _free(kind, size)
        # tops from 1 to rows that leave a row between the copies: those above, then those below
        above = (top[:, k] - height - 1).clamp_min(0)
        below = (rows - top[:, k] - height).clamp_min(0)
        pick = (u[:, 0] * (above + below)).long()
        second = torch.where(pick < above, 1 + pick, top[:, k] + height + 1 + pick - above)
        _put(x, again == k, kind, second, 1 + (u[:, 1] * columns).long())
    return x[:, None]


@dataclass(frozen=True)
class Shapes:
    """Simple Shapes, made again from its description.

    Args:
        count: pictures, >= 1.
        size: height and width, 64 (the paper's) or 32 (shapes a little larger for their columns).
        first: the seed of the first picture, >= 0; the others follow, so blocks that do not overlap are held out from each other.

    Raises:
        ValueError: for other values.

    Source: Aithal et al. 2024 (2406.09358), section 4 and appendix.
    """

    count: int = 5000
    size: int = 64
    first: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"Shapes.count is {self.count}; allowed: >= 1")
        if self.size not in AREAS:
            raise ValueError(f"Shapes.size is {self.size}; allowed: {', '.join(map(str, AREAS))}")
        check_seeds([self.first])

    @cached_property
    def _arrays(self) -> Tensor:
        return drawn(torch.arange(self.first, self.first + self.count), self.size)[0]

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, self.size, self.size

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def bins(self) -> int:
        """Values that a number of the data can take, over [-1, 1]."""
        return 2

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._arrays.numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        return Batch(self._arrays[index], None)

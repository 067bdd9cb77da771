"""EDM's augmentation: geometry that the network is told of, so that it does not leak into samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from .augment import Augmented
from .warp import warp

__all__ = ["EDMAugment"]

_NORMAL = NormalDist()
_Map = tuple[tuple[float, float, float], tuple[float, float, float]]  # (right, down, 1) -> (right, down)
_SAME: _Map = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


class _Drawn(NamedTuple):
    """What is done to one picture: mirrored and turned upside down, then shown at `inverse` of each place; and what is told of it."""

    mirrored: bool
    upside_down: bool
    inverse: _Map
    told: tuple[float, ...]


@dataclass(frozen=True)
class EDMAugment:
    """Mirror, turn upside down, scale, rotate, stretch and shift pictures, each by a chance of its own, and tell the network.

    Nine numbers, in the order of the table: a0 and a1 (mirrored, upside down), a2 (scaled by scale^a2), cos a3 - 1 and sin a3 (rotated
    counter-clockwise by a3), a5 cos a4 and a5 sin a4 (stretched by stretch^a5 along angle a4, shrunk by it across), a6 and a7 (shifted by
    shift a6 widths to the right, shift a7 heights down). Sampling tells zeros, which mean that nothing was done. What leaves the picture
    is lost, what is missing is its mirror image. Bicubic interpolation and one blur (see `warp`) stand for the authors' wavelet filters;
    their code leaves a4 at 0 half of the time, their table does not.

    Args:
        share: of the pictures that each of the last five is done to, 0 to 1: 0.12 on CIFAR-10, 0.15 on faces and animals; 0: nothing
            is ever done, not even mirroring.
        mirror: mirror half of all pictures.
        upside_down: turn upside down half of a share.
        scale: sizes are multiplied by scale to the power of a standard normal, >= 1; 1: none.
        rotation: largest angle, as a share of half a turn, 0 to 1.
        stretch: as scale, along the one axis, and its inverse across.
        shift: standard deviation in picture widths, >= 0.

    Raises:
        ValueError: for other values; in a call, for what is no batch of pictures (B, C, H, W).

    Source: Karras et al. 2022 (2206.00364), appendix F.2, table 6.
    """

    share: float = 0.12
    mirror: bool = True
    upside_down: bool = True
    scale: float = 2**0.2
    rotation: float = 1.0
    stretch: float = 2**0.2
    shift: float = 0.125

    def __post_init__(self) -> None:
        for name, low, high in (
            ("share", 0, 1), ("scale", 1, math.inf), ("rotation", 0, 1), ("stretch", 1, math.inf), ("shift", 0, math.inf)
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high or value == math.inf:
                allowed = f"{low} to {high}" if high < math.inf else f"a finite number >= {low}"
                raise ValueError(f"EDMAugment.{name} is {value}; allowed: {allowed}")

    @property
    def draws(self) -> int:
        return 13

    @property
    def told(self) -> int:
        return 9

    def __call__(self, x: Tensor, u: Tensor) -> Augmented:
        if x.ndim != 4:
            raise ValueError(
                f"EDMAugment is for pictures (B, C, H, W); the data are {tuple(x.shape)}; choose Flip or null"
            )
        height, width = x.shape[2:]
        # one sample at a time in Python's numbers: vector lanes and remainders of torch may round a cosine differently
        drawn = [self._draw(row, width, height) for row in u.tolist()]
        for axis, turned in ((3, [d.mirrored for d in drawn]), (2, [d.upside_down for d in drawn])):
            if any(turned):
                x = torch.where(torch.tensor(turned).to(x.device)[:, None, None, None], x.flip(axis), x)
        moved = [i for i, d in enumerate(drawn) if d.inverse != _SAME]
        if moved:
            rows = torch.tensor(moved).to(x.device)
            inverse = torch.tensor([drawn[i].inverse for i in moved], dtype=torch.float64)
            x = x.index_copy(0, rows, warp(x[rows], inverse))
        return Augmented(x, torch.tensor([d.told for d in drawn], dtype=torch.float32).view(-1, 9).to(x.device))

    def _draw(self, u: Sequence[float], width: int, height: int) -> _Drawn:
        """What is done to one picture, of its 13 uniform numbers."""
        on = [u[i] < self.share for i in (1, 3, 5, 7, 10)]  # upside down, scale, rotation, stretch, shift
        a0 = float(self.mirror and self.share > 0 and u[0] < 0.5)
        a1 = float(self.upside_down and on[0] and u[2] < 0.5)
        a2 = _NORMAL.inv_cdf(u[4]) if on[1] and self.scale > 1 else 0.0
        a3 = math.pi * self.rotation * (2 * u[6] - 1) if on[2] and self.rotation else 0.0
        a4 = math.pi * (2 * u[8] - 1)
        a5 = _NORMAL.inv_cdf(u[9]) if on[3] and self.stretch > 1 else 0.0
        a6, a7 = (_NORMAL.inv_cdf(v) if on[4] and self.shift else 0.0 for v in u[11:13])
        inverse = _SAME
        if a2 or a3 or a5 or a6 or a7:
            # the last of the table is undone first
            linear = _product(
                _scaling(self.scale**-a2, self.scale**-a2), _rotation(-a3),
                _rotation(a4), _scaling(self.stretch**-a5, self.stretch**a5), _rotation(-a4),
            )  # fmt: skip
            by = (-self.shift * width * a6, -self.shift * height * a7)
            (a, b), (c, d) = linear
            inverse = ((a, b, a * by[0] + b * by[1]), (c, d, c * by[0] + d * by[1]))
        told = (a0, a1, a2, math.cos(a3) - 1, math.sin(a3), a5 * math.cos(a4), a5 * math.sin(a4), a6, a7)
        return _Drawn(bool(a0), bool(a1), inverse, told)


_Linear = tuple[tuple[float, float], tuple[float, float]]


def _rotation(angle: float) -> _Linear:
    """Counter-clockwise as seen, where the second axis points down."""
    c, s = math.cos(angle), math.sin(angle)
    return (c, s), (-s, c)


def _scaling(right: float, down: float) -> _Linear:
    return (right, 0.0), (0.0, down)


def _product(*maps: _Linear) -> _Linear:
    (a, b), (c, d) = maps[0]
    for (e, f), (g, h) in maps[1:]:
        (a, b), (c, d) = (a * e + b * g, a * f + b * h), (c * e + d * g, c * f + d * h)
    return (a, b), (c, d)

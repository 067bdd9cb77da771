"""Noise that belongs to a path, not to its steps: one Brownian motion per sample, whatever the grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .level import Level
from .noise import Stream, gaussian

__all__ = ["Brownian"]

# bisections of the clock: enough for any usual grid; a finer one is given more, so that no two of its levels lie in one part
_LEAST, _MOST = 14, 30


@dataclass
class _Tree:
    """W on [0, 1] by Levy's construction, each midpoint's Gaussian at its own address; keeps the bisections of the last reading."""

    seeds: Tensor
    attempts: Tensor
    draw: int
    shape: Sequence[int]
    depth: int
    stack: list[tuple[int, int, Tensor, Tensor]] = field(default_factory=list)

    def _normal(self, node: int) -> Tensor:
        return gaussian(self.seeds, self.attempts, node, self.draw, self.shape, torch.float64, Stream.BROWNIAN)

    def __call__(self, s: float) -> Tensor:
        """W(s), s in [0, 1]: float64 (B, *shape)."""
        if not self.stack:
            end = self._normal(0)
            self.stack.append((0, 0, torch.zeros_like(end), end))
        while not self._holds(s):
            self.stack.pop()
        depth, place, left, right = self.stack[-1]
        while depth < self.depth:
            width = 2.0**-depth
            middle = (left + right) / 2 + math.sqrt(width) / 2 * self._normal(2**depth + place)
            below = s < (place + 0.5) * width
            depth, place = depth + 1, 2 * place + (not below)
            left, right = (left, middle) if below else (middle, right)
            self.stack.append((depth, place, left, right))
        share = min(max(s * 2.0**depth - place, 0.0), 1.0)
        bridge = math.sqrt(share * (1 - share) * 2.0**-depth)
        return left + share * (right - left) + bridge * self._normal(2**depth + place)

    def _holds(self, s: float) -> bool:
        depth, place, *_ = self.stack[-1]
        return depth == 0 or place <= s * 2.0**depth < place + 1


def _clock(level: Level) -> float:
    a, s = math.sqrt(level.alpha), math.sqrt(level.sigma)
    return s / (a + s)


def _bisections(places: Sequence[float]) -> int:
    """How often the clock must be halved until no two places within it share a part: then the law of the increments is exact."""
    inside = sorted(s for s in places if 0.0 < s < 1.0)
    for depth in range(_LEAST, _MOST + 1):
        parts = [int(s * 2.0**depth) for s in inside]
        if len(set(parts)) == len(parts):
            return depth
    raise ValueError(
        "two levels are equal, or too close for a Brownian motion between them; give levels that are distinct"
    )


class Brownian:
    """A noise source whose step noise is the increment of one Brownian motion over the step, divided by its standard deviation.

    So a stochastic sampler with more steps, or on another grid, follows the same noise: its pictures converge as the grid is refined,
    where independent draws per step give another picture for every number of steps. The clock of the motion is sqrt(g) / (1 + sqrt(g))
    with g = sigma / alpha: from 0 at data to 1 at pure noise, with room for every level in between. A step costs ten Gaussians or so
    instead of one, and about fifteen float64 tensors like x are kept.

    For methods whose noise is that of an SDE (DDIM, DDPM, Euler, DPM-Solver with an eta): churn or a corrector of a size that does not
    shrink with the steps has no limit to converge to.

    Args:
        seeds: int64 (B,), in [0, 2^63).
        attempts: int64 (B,), or one number; which try of the sample.
        levels: of the grid; step i goes from levels[i] to levels[i + 1], plain numbers.
        shape: of one sample.
        dtype: of the noise.

    Raises:
        ValueError: for levels per sample or per element, or that are equal, and, when called, for a step that is not on the grid.

    Source: Levy's construction; Li et al. 2020 (2001.01328) for trees of seeds.
    """

    def __init__(
        self, seeds: Tensor, attempts: Tensor | int, levels: Sequence[Level], shape: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        if not all(level.is_scalar for level in levels):
            raise ValueError("Brownian needs one noise level per step, and these are per sample or per element")
        self._places = [_clock(level) for level in levels]
        self._depth = _bisections(self._places)
        self._seeds, self._shape, self._dtype = seeds, shape, dtype
        self._attempts = attempts if isinstance(attempts, Tensor) else torch.full_like(seeds, attempts)
        self._trees: dict[int, _Tree] = {}

    def __call__(self, step: int, draw: int) -> Tensor:
        """The noise of a step, (B, *shape); step -1 is the starting noise, the same as without a Brownian motion."""
        if step == -1:
            return gaussian(self._seeds, self._attempts, -1, draw, self._shape, self._dtype)
        if not 0 <= step < len(self._places) - 1:
            raise ValueError(f"step is {step}; allowed: -1 to {len(self._places) - 2}, those of the grid")
        tree = self._trees.setdefault(draw, _Tree(self._seeds, self._attempts, draw, self._shape, self._depth))
        a, b = self._places[step], self._places[step + 1]
        return ((tree(a) - tree(b)) / math.sqrt(abs(a - b))).to(self._dtype)

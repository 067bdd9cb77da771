"""Points whose law is known, and which are near one of few narrow modes: what is far from all of them was hallucinated."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ...diffusion import Batch
from ...schedules.noise import Stream, gaussian

__all__ = ["FAR", "KINDS", "Kind", "Modes"]

Kind = Literal["line", "gap", "grid", "rotated"]
KINDS: tuple[Kind, ...] = ("line", "gap", "grid", "rotated")

# standard deviations from the nearest mode beyond which a point is a hallucination: of data 1.5e-8 lie so far out in the plane
FAR = 6.0
# of a mode before scaling, and what points in the plane are divided by: the deviation of the square grid, for the rotated one too
_STD, _SCALE = 0.05, math.sqrt(0.05**2 + 8.0)


@dataclass(frozen=True)
class Modes:
    """Exact samples of a mixture of equally likely narrow Gaussians, modes in turn.

    Args:
        kind: "line" (means 1, 2, 3) or "gap" (1, 2, 4, 5), numbers with standard deviation 0.05; "grid" (5 x 5, 0.7070 apart) or
            "rotated" (25 in a diamond, 0.5 apart along diagonals), points with standard deviation 0.01767 in both directions.
        count: how many, >= the number of modes.
        seed: other samples of the same law, 0 to 2^20 - 1.
        classes: whether a point of "grid" has a class, the column of its mode, 0 to 4.

    Raises:
        ValueError: for another kind, fewer samples, another seed, or classes of a kind that has none.

    Source: Aithal et al. 2024 (2406.09358), section 4, and their code.
    """

    kind: Kind = "grid"
    count: int = 100_000
    seed: int = 0
    classes: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Modes.kind is {self.kind!r}; allowed: {', '.join(KINDS)}")
        if self.count < len(self.centres):
            raise ValueError(f"Modes.count is {self.count}; allowed: >= {len(self.centres)}, one of each mode")
        if not 0 <= self.seed < 1 << 20:
            raise ValueError(f"Modes.seed is {self.seed}; allowed: 0 to 2^20 - 1")
        if self.classes and self.kind != "grid":
            raise ValueError(
                f"Modes.classes is true, but {self.kind!r} has none; take kind 'grid', or leave classes out"
            )

    @cached_property
    def centres(self) -> Tensor:
        """Means of the modes, float64 (modes, 1) or (modes, 2)."""
        if self.kind in ("line", "gap"):
            return torch.tensor([1.0, 2.0, 3.0] if self.kind == "line" else [1.0, 2.0, 4.0, 5.0]).double()[:, None]
        if self.kind == "grid":
            places = [(2 * i, 2 * j) for i in range(-2, 3) for j in range(-2, 3)]
        else:
            places = [(i, j) for i in range(-4, 5) for j in range(-4, 5) if (i + j) % 2 == 0 and abs(i) + abs(j) <= 4]
        return torch.tensor(places).double() / _SCALE

    @property
    def std(self) -> float:
        """Standard deviation of a mode, per direction."""
        return _STD if self.kind in ("line", "gap") else _STD / _SCALE

    def nearest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest mode of each point, int64 (N,), and how far it is, in standard deviations, float64 (N,).

        Args:
            x: (N, 1, 1, 1) or (N, 2, 1, 1).
        """
        found = torch.cdist(x.flatten(1).double(), self.centres, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        return found.indices, found.values / self.std

    def distance(self, x: Tensor) -> Tensor:
        """To the nearest mode, in standard deviations, float64 (N,)."""
        return self.nearest(x)[1]

    def hallucinated(self, x: Tensor) -> Tensor:
        """Whether a point is further than FAR from all modes, bool (N,)."""
        return self.distance(x) > FAR

    def drawn(self, seeds: Tensor, which: Tensor) -> Tensor:
        """Exact samples of modes, float32 (N, C, 1, 1), each a function of its seed.

        Args:
            seeds: int64 (N,).
            which: the mode, int64 (N,).
        """
        noise = gaussian(seeds, 1, 0, 0, (self.centres.shape[1],), torch.float64, Stream.SAMPLE)
        return (self.centres[which] + self.std * noise).float()[:, :, None, None]

    @cached_property
    def _arrays(self) -> tuple[Tensor, Tensor]:
        index = torch.arange(self.count)
        which = index % len(self.centres)
        return self.drawn(index + (1 << 40) + (self.seed << 41), which), which // 5

    def __len__(self) -> int:
        return self.count

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.centres.shape[1], 1, 1

    @property
    def num_classes(self) -> int:
        return 5 if self.classes else 0

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._arrays[0].numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        x, labels = self._arrays
        return Batch(x[index], labels[index] if self.classes else None)

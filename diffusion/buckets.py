"""Error per noise level while training."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ..schedules import Level

__all__ = ["EDGES", "NAMES", "Buckets"]

EDGES = (-12.0, -9.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 9.0, 12.0)
"""Borders in log-SNR; the first and last bucket are open."""
NAMES = (
    f"below_{EDGES[0]:g}", *(f"{a:g}_to_{b:g}" for a, b in itertools.pairwise(EDGES)), f"above_{EDGES[-1]:g}",
)  # fmt: skip
"""What the buckets are called."""


class Buckets:
    """Sums and counts of an error per bucket of log-SNR, on the device: reading them is the only wait.

    Args:
        device: where the levels are.
    """

    def __init__(self, device: torch.device) -> None:
        self._edges = torch.tensor(EDGES, dtype=torch.float64, device=device)
        self.counts = torch.zeros(len(EDGES) + 1, device=device)
        self.sums = torch.zeros(len(EDGES) + 1, device=device)

    def add(self, level: Level, error: Tensor) -> None:
        """Count errors (B,) at levels of tensors (B,)."""
        log_snr = level.log_snr
        assert isinstance(log_snr, Tensor)
        place = torch.bucketize(log_snr, self._edges)
        self.counts.index_add_(0, place, torch.ones_like(error))
        self.sums.index_add_(0, place, error)

    def reset(self) -> None:
        """Start again from nothing."""
        self.counts.zero_()
        self.sums.zero_()

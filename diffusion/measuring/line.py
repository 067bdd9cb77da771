"""Distances between two sets of numbers: both are sorted, and their quantile functions are compared exactly."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["kolmogorov_smirnov", "pieces", "wasserstein"]


def pieces(n: int, m: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Where the quantile functions of n and of m numbers are both constant.

    Args:
        n, m: how many numbers, >= 1.
        device: of the answer.

    Returns:
        Widths, float64 (P,), which sum to 1, and which of the n and which of the m sorted numbers stands there, int64 (P,) each. The
        ends are whole multiples of 1 / (n m), so nothing is lost to rounding. For n = m these are pairs of equal rank.
    """
    ends = torch.cat([torch.arange(1, n + 1, device=device) * m, torch.arange(1, m + 1, device=device) * n]).unique()
    widths = torch.diff(ends, prepend=ends.new_zeros(1)).double() / (n * m)
    return widths, (ends - 1) // m, (ends - 1) // n


def wasserstein(x: Tensor, y: Tensor, power: int = 1) -> Tensor:
    """The Wasserstein distance of order p between numbers, to the power of p, for every column: exact, also for n other than m.

    Args:
        x, y: (n, L) and (m, L), or (n,) and (m,).
        power: p, 1 or 2.

    Returns:
        float64 (L,), or () of a single column.
    """
    widths, i, j = pieces(len(x), len(y), x.device)
    apart = x.double().sort(0).values[i] - y.double().sort(0).values[j]
    return torch.tensordot(widths, apart.abs() if power == 1 else apart.square(), 1)


def kolmogorov_smirnov(x: Tensor, y: Tensor) -> float:
    """The largest difference between the distribution functions of two sets of numbers, 0 to 1.

    Args:
        x, y: (n,) and (m,).
    """
    x, y = x.double().sort().values, y.double().sort().values
    every = torch.cat([x, y])
    below = [torch.searchsorted(v, every, right=True).double() / len(v) for v in (x, y)]
    return float((below[0] - below[1]).abs().max())

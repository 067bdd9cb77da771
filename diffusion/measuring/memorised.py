"""Whether samples are copies of training pictures: their distances to the nearest ones, beside those of pictures held out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .neighbours import nearest
from .vectors import check_vectors

__all__ = ["HeldOut", "Memorised", "memorised"]

# training vectors whose own nearest neighbours say what a usual distance is
_TYPICAL = 1000


@dataclass(frozen=True)
class HeldOut:
    """What real pictures that were not trained on say: how near to the training data one comes by chance.

    Args:
        memorised: the share of them that the rule of ratios would call memorised, 0 to 1. Only what samples have above this is suspicious.
        z: of the rank test: below 0 where samples are nearer to the training pictures than held-out ones are. -1.6 has 5 % of what was
            not copied, where samples are as good as data; samples that are worse than data have z above 0, and may hide copies.
        p: the probability of such a z or a smaller one for samples of the law of the data, 0 to 1.
    """

    memorised: float
    z: float
    p: float


@dataclass(frozen=True, eq=False)
class Memorised:
    """How near samples are to the training pictures.

    Args:
        memorised: share of samples for which the nearest training picture is nearer than `ratio` times the second nearest, 0 to 1. Samples
            of the true law have a share of ratio^D in D intrinsic dimensions: 1/9 in 2, 2e-4 in 8.
        copies: share of samples at distance 0, 0 to 1.
        near: share of samples within `fraction` of a usual distance, 0 to 1, which also finds copies of pictures that are in the data
            twice: their two nearest are equally near.
        usual: the median distance of training pictures to their nearest others.
        distances: of each sample to its nearest training picture, float64 (N,).
        ratios: nearest over second nearest, 0 to 1; 0 of a copy, float64 (N,).
        rows: which training picture is the nearest, int64 (N,).
        pairs: (sample, training picture) with the smallest ratios first, and of equal ones the nearest, int64 (P, 2): those to look at.
        held_out: None where no pictures were held out.
    """

    memorised: float
    copies: float
    near: float
    usual: float
    distances: Tensor
    ratios: Tensor
    rows: Tensor
    pairs: Tensor
    held_out: HeldOut | None


def memorised(
    fake: Tensor, train: Tensor, held_out: Tensor | None = None, ratio: float = 1 / 3, fraction: float = 0.1, show: int = 16
) -> Memorised:  # fmt: skip
    """Distances of samples to their nearest training pictures, and the pairs that look most like copies.

    Copies are found as far as the features see them: pixels find those to the byte, a network's features find such with small changes, too.
    The rank test is that of Meehan et al. with a single cell, z is their Z_U: copies in one place and poor samples in another cancel out.

    Args:
        fake: (N, d), features of samples.
        train: (M, d), of all that was trained on, M >= 2.
        held_out: (H, d), of real pictures of the same law that were not trained on, H >= 2.
        ratio: below which a sample counts as memorised, in (0, 1).
        fraction: of a usual distance, in (0, 1).
        show: pairs, >= 0.

    Raises:
        ValueError: for another shape or range, or numbers that are not finite.

    Source: Yoon et al. 2023, "Diffusion probabilistic models generalize when they fail to memorize" (the ratio of 1/3); Meehan et al. 2020,
    arXiv 2004.05675, section 4 (the rank test). `fraction` is ours.
    """
    check_vectors({"train": train, "fake": fake} | ({} if held_out is None else {"held_out": held_out}), 2)
    if not 0 < ratio < 1 or not 0 < fraction < 1 or show < 0:
        raise ValueError(
            f"ratio, fraction, show are {ratio}, {fraction}, {show}; allowed: ratio and fraction in (0, 1), show >= 0"
        )
    usual = _usual(train)
    distances, ratios, rows = _to(fake, train)
    by_distance = distances.argsort(stable=True)
    first = by_distance[ratios[by_distance].argsort(stable=True)][:show]
    beside = None
    if held_out is not None:
        others, their_ratios, _ = _to(held_out, train)
        z = rank_z(distances, others)
        beside = HeldOut(_share(their_ratios < ratio), z, 0.5 * math.erfc(-z / math.sqrt(2)))
    return Memorised(
        _share(ratios < ratio), _share(distances == 0), _share(distances <= fraction * usual), usual, distances, ratios, rows,
        torch.stack([first, rows[first]], 1), beside,
    )  # fmt: skip


def _share(which: Tensor) -> float:
    return float(which.double().mean())


def _usual(train: Tensor) -> float:
    """Median distance to the nearest other, of rows that are spread over the set."""
    step = max(1, len(train) // _TYPICAL)
    some = torch.arange(0, len(train), step, device=train.device)
    return float(nearest(train[some], train, 2)[0][:, 1].median())  # the first is the row itself, or one that is equal


def _to(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each vector: distance to the nearest, over the second nearest, which it is."""
    found, rows = nearest(x, train, 2)
    first, second = found.unbind(1)
    return first, torch.where(first > 0, first / second, 0.0), rows[:, 0]


def rank_z(x: Tensor, y: Tensor) -> float:
    """Mann and Whitney's U as a standard normal: below 0 where x is smaller than y; 0 where all numbers are equal.

    Args:
        x, y: (n,) and (m,) numbers; ties count half, and narrow the variance.
    """
    n, m = len(x), len(y)
    ordered = y.double().sort().values
    above = (
        sum(torch.searchsorted(ordered, x.double().contiguous(), right=right).double().sum() for right in (False, True))
        / 2
    )
    ties = torch.cat([x, y]).double().unique(return_counts=True)[1].double()
    variance = n * m / 12 * (n + m + 1 - float((ties**3 - ties).sum()) / ((n + m) * (n + m - 1)))
    return float(above - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0

"""Nearest neighbours, exact, and what they say of two sets: precision, recall, density and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .vectors import check_vectors, spans

__all__ = ["PRDC", "nearest", "prdc"]

# rows of either set at a time: 64 MiB of distances
_ROWS, _COLUMNS = 1024, 8192
# candidates beyond the k that are asked for, since rounding may exchange near ones
_SPARE = 8


@dataclass(frozen=True)
class PRDC:
    """Shares of two sets in each other's neighbourhoods.

    Args:
        precision: share of fakes within the ball of some real vector, 0 to 1: how real samples are.
        recall: share of real vectors within the ball of some fake, 0 to 1: how much of the data is reached.
        density: how many balls of real vectors a fake lies in, over k: 1 of equal laws, above 1 where fakes crowd dense places.
        coverage: share of real vectors whose ball holds a fake, 0 to 1.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def nearest(a: Tensor, b: Tensor, k: int = 1, itself: bool = False) -> tuple[Tensor, Tensor]:
    """The k nearest vectors of b to each of a; equal vectors are at exactly 0.

    A matrix product finds candidates, whose distances are then summed again from differences, in float64.

    Args:
        a, b: (N, d) and (M, d).
        k: how many, 1 to M (M - 1 where a is b).
        itself: whether a is b, row by row: then no row is its own neighbour, though an equal row is.

    Returns:
        Euclidean distances, float64 (N, k), ascending, and their rows in b, int64 (N, k); of equally near ones any.

    Raises:
        ValueError: for another shape, k out of range, or numbers that are not finite.
    """
    check_vectors({"a": a, "b": b}, 1)
    if itself and len(a) != len(b):
        raise ValueError(f"itself is True for {len(a)} and {len(b)} vectors; allowed: where both are the same set")
    squares, rows = _nearest(a, b, k, itself)
    return squares.sqrt(), rows


def prdc(fake: Tensor, real: Tensor, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage: who lies in whose balls, which reach to the k-th neighbour within the own set.

    Compare at equal counts of fakes and of real vectors only: with more vectors balls shrink. Even of equal laws, at equal counts,
    coverage is about 1 - 2^-k and precision and recall are below 1; density is 1 in expectation at any counts. Precision and recall are
    mostly published with k = 3, the others with 5. A vector on the edge is within for precision, recall and coverage, and outside for
    density, so that a set against itself has exactly 1.

    Args:
        fake, real: (N, d) and (M, d), features of the same extractor.
        k: which neighbour, 1 to min(N, M) - 1.

    Raises:
        ValueError: for another shape, k out of range, or numbers that are not finite.

    Source: Kynkaanniemi et al. 2019, arXiv 1904.06991, eq. 1 and 2 (precision, recall); Naeem et al. 2020, arXiv 2002.09797,
    eq. 4 and 5 (density, coverage).
    """
    check_vectors({"fake": fake, "real": real}, 2)
    if not 1 <= k < min(len(fake), len(real)):
        raise ValueError(
            f"k is {k}; allowed: 1 to {min(len(fake), len(real)) - 1}, below the counts: {len(fake)} fakes, {len(real)} real vectors"
        )
    around_real = _nearest(real, real, k, True)[0][:, -1]
    around_fake = _nearest(fake, fake, k, True)[0][:, -1]
    centre = real.mean(0, dtype=torch.float64)
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    reached, covered, inside = [], [], 0
    for rows in spans(len(real), _ROWS):
        r = around_real[rows, None]
        reaches = covers = torch.zeros(len(r), dtype=torch.bool, device=fake.device)
        for columns in spans(len(fake), _COLUMNS):
            f = around_fake[columns]
            squares, slack = _approximate(real[rows], fake[columns], centre)
            # where rounding could decide, the distance is summed as the radius was: a tie is a tie
            unsure = ((squares - r).abs() <= slack) | ((squares - f).abs() <= slack)
            for some in unsure.nonzero().split(_ROWS):
                i, j = some.unbind(1)
                squares[i, j] = _exact(real[rows][i], fake[columns][j])
            within = squares <= r
            precise[columns] |= within.any(0)
            covers = covers | within.any(1)
            reaches = reaches | (squares <= f).any(1)
            inside += int((squares < r).sum())
        covered.append(covers)
        reached.append(reaches)
    share = [float(v.double().mean()) for v in (precise, torch.cat(reached), torch.cat(covered))]
    return PRDC(share[0], share[1], inside / (k * len(fake)), share[2])


def _nearest(a: Tensor, b: Tensor, k: int, itself: bool) -> tuple[Tensor, Tensor]:
    """Squared distances and rows of the k nearest."""
    most = len(b) - itself
    if not 1 <= k <= most:
        raise ValueError(f"k is {k}; allowed: 1 to {most}, of {len(b)} vectors" + " without itself" * itself)
    centre = b.mean(0, dtype=torch.float64)
    found = [_nearest_of(a[rows], b, k, centre, rows.start if itself else None) for rows in spans(len(a), _ROWS)]
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def _nearest_of(x: Tensor, b: Tensor, k: int, centre: Tensor, first: int | None) -> tuple[Tensor, Tensor]:
    """The same of some rows of a; first: the row of b that the first of them is, where a is b."""
    keep = min(k + _SPARE, len(b) - (first is not None))
    best = torch.empty(len(x), 0, dtype=torch.float64, device=x.device)
    at = torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    doubt = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for columns in spans(len(b), _COLUMNS):
        squares, slack = _approximate(x, b[columns], centre)
        if first is not None:
            _skip(squares, first - columns.start)
        values, index = squares.topk(min(keep, squares.shape[1]), largest=False)
        best, at = torch.cat([best, values], 1), torch.cat([at, index + columns.start], 1)
        best, order = best.topk(min(keep, best.shape[1]), largest=False)
        at, doubt = at.gather(1, order), torch.maximum(doubt, slack.amax(1))
    at = at[:, :keep].sort(1).values
    exact = torch.stack([_exact(x, b[column]) for column in at.unbind(1)], 1)
    exact, order = torch.sort(exact, dim=1, stable=True)
    exact, at = exact[:, :k].clone(), at.gather(1, order)[:, :k].clone()
    # Beyond the candidates none is nearer than the last of them, but for rounding. Where that leaves a doubt, ask all.
    unsure = (exact[:, -1] > 0) & (exact[:, -1] > best[:, -1] - doubt) if keep < len(b) - (first is not None) else []
    for i in torch.as_tensor(unsure).nonzero()[:, 0].tolist():
        every = torch.cat([_exact(x[i].expand_as(b[some]), b[some]) for some in spans(len(b), _ROWS)])
        if first is not None:
            every[first + i] = torch.inf
        exact[i], at[i] = every.topk(k, largest=False)
    return exact, at


def _skip(squares: Tensor, first: int) -> None:
    """Put row i infinitely far from column first + i, where there is such a column."""
    squares.diagonal(first).fill_(torch.inf) if -len(squares) < first < squares.shape[1] else None


def _approximate(x: Tensor, y: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances by a matrix product, (N, M), and how far rounding may have moved them."""
    x, y = x.double() - centre, y.double() - centre
    lengths = x.square().sum(1)[:, None] + y.square().sum(1)
    # |x|^2 + |y|^2 - 2 xy: each sum of d products errs by at most d roundings of its size, and the rest by a few
    slack = lengths * (4 * (x.shape[1] + 8) * torch.finfo(torch.float64).eps)
    return torch.addmm(lengths, x, y.T, alpha=-2), slack


def _exact(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances of pairs of rows, (N,): the same bits in any batch, and exactly 0 of equal rows."""
    if len(x) == 1:  # torch sums a single long row by several threads, in another order
        return _exact(x.expand(2, -1), y.expand(2, -1))[:1]
    return (x.double() - y.double()).square_().sum(1)

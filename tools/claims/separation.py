"""How well a score tells bad pictures from good ones, also among pictures with equally many parts."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["at_equal", "auc", "removed"]

# good pictures that a number of parts needs, for its bad ones to be compared with them
LEAST = 10


def auc(bad: Tensor, good: Tensor) -> float:
    """The probability that a bad picture scores higher than a good one, ties half; 1/2 where there are none of one sort.

    Args:
        bad, good: scores, float (N,) and (M,); nan counts as the highest.
    """
    if not len(bad) or not len(good):
        return 0.5
    bad, ordered = bad.double().nan_to_num(nan=math.inf), good.double().nan_to_num(nan=math.inf).sort().values
    below, upto = (torch.searchsorted(ordered, bad, right=right).double() for right in (False, True))
    return float((below + upto).mean() / (2 * len(ordered)))


def removed(bad: Tensor, good: Tensor, kept: float = 0.96) -> float:
    """The share of bad pictures above the threshold that keeps a share of the good ones: chosen with labels, so no filter does better;
    0 where there are none of one sort.

    Args:
        bad, good: scores, float (N,) and (M,).
        kept: share, in (0, 1].
    """
    if not len(bad) or not len(good):
        return 0.0
    ordered = good.double().nan_to_num(nan=math.inf).sort().values
    most = ordered[math.ceil(kept * len(good) - 1e-9) - 1]
    return float((bad.double().nan_to_num(nan=math.inf) > most).double().mean())


def at_equal(
    measure: Callable[[Tensor, Tensor], float], score: Tensor, bad: Tensor, good: Tensor, parts: Tensor
) -> tuple[float, int]:
    """A measure where every bad picture is compared with the good ones of as many parts: the mean over the bad pictures.

    Args:
        measure: `auc` or `removed`.
        score: float (N,).
        bad, good: which pictures, bool (N,).
        parts: how many parts a picture has, int64 (N,).

    Returns:
        The mean, and of how many bad pictures: those with enough good ones of as many parts. Without any it is the measure of no
        pictures, 0.
    """
    total, count = 0.0, 0
    for number in parts[bad].unique().tolist():
        here = parts == number
        if int((good & here).sum()) >= LEAST:
            n = int((bad & here).sum())
            total, count = total + n * measure(score[bad & here], score[good & here]), count + n
    return (total / count if count else measure(score[:0], score[:0])), count

"""Thresholds with a guarantee: so placed among the scores of real samples that a further real one is seldom outside."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

__all__ = ["Sides", "conformal_bounds"]

Sides: TypeAlias = Literal["upper", "both"]


def conformal_bounds(scores: Tensor, alpha: float, sides: Sides = "upper") -> tuple[float, float]:
    """Bounds (least, most) that a further sample, exchangeable with these, is outside of with probability <= alpha.

    The upper one is the ceil((n + 1) (1 - alpha))-th smallest of n scores; with both sides each has alpha / 2. Nothing is said about
    samples that come from elsewhere, such as generated ones.

    Args:
        scores: of held-out real samples, float (n,).
        alpha: in (0, 1).
        sides: "upper": only high scores are rejected, least is -inf. "both": low ones too.

    Raises:
        ValueError: for another alpha, too few scores for it, and scores that are no numbers.

    Source: split conformal prediction, Papadopoulos et al. 2002; Vovk et al. 2005.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(
            f"alpha is {alpha}; allowed: above 0 and below 1, the share of real samples that may be rejected"
        )
    if sides not in ("upper", "both"):
        raise ValueError(f"sides is {sides!r}; allowed: 'upper', 'both'")
    if bool(scores.isnan().any()):
        raise ValueError(
            "scores of real samples are nan; the weights hold nan, or the level is one that the model does not know"
        )
    n, share = len(scores), alpha if sides == "upper" else alpha / 2
    # 1e-9: (n + 1)(1 - alpha) is often whole, and must not be rounded past it
    rank = max(math.ceil((n + 1) * (1 - share) - 1e-9), 1)
    if rank > n:
        raise ValueError(
            f"{n} real samples are too few for alpha {alpha:g}{' on both sides' * (sides == 'both')}; allowed: at least "
            f"{math.ceil(1 / share - 1e-9) - 1}, or a larger alpha"
        )
    ordered = torch.sort(scores.double()).values
    return (float(ordered[n - rank]) if sides == "both" else -math.inf), float(ordered[rank - 1])

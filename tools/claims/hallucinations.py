"""How well scores tell hallucinations from samples of the data's law, where it is known which are which."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .modes import FAR, Modes

__all__ = ["auc", "between", "kept_at_removed", "outcome", "removed_at_kept"]

# standard deviations from a line within which a point lies on it
_NEAR = 3.0


def _numbers(score: Tensor) -> Tensor:
    """Scores in float64; what is no number is as bad as can be."""
    return torch.nan_to_num(score.double(), nan=math.inf, posinf=math.inf)


def auc(score: Tensor, bad: Tensor) -> float | None:
    """The chance that a hallucination scores higher than another sample, ties half; None without both kinds.

    Args:
        score: (N,).
        bad: bool (N,).
    """
    low, high = _numbers(score)[~bad].sort().values, _numbers(score)[bad]
    if not len(low) or not len(high):
        return None
    below = torch.searchsorted(low, high) + torch.searchsorted(low, high, right=True)
    return float(below.double().mean()) / (2 * len(low))


def removed_at_kept(score: Tensor, bad: Tensor, kept: float = 0.96) -> float | None:
    """The share of hallucinations above the lowest threshold that keeps so many of the others; None without both kinds.

    Args:
        score: (N,); what scores no more than a threshold is kept.
        bad: bool (N,).
        kept: share of the others, in (0, 1].
    """
    score = _numbers(score)
    good = score[~bad].sort().values
    if not len(good) or not bool(bad.any()):
        return None
    return float((score[bad] > good[math.ceil(kept * len(good) - 1e-9) - 1]).double().mean())


def kept_at_removed(score: Tensor, bad: Tensor, removed: float = 0.95) -> float | None:
    """The share of the others below the highest threshold that removes so many hallucinations; None without both kinds."""
    score = _numbers(score)
    worst = score[bad].sort(descending=True).values
    if not len(worst) or bool(bad.all()):
        return None
    return float((score[~bad] < worst[math.ceil(removed * len(worst) - 1e-9) - 1]).double().mean())


def outcome(score: Tensor, threshold: float, distance: Tensor) -> dict[str, float | None]:
    """What a threshold does: the share of hallucinations removed, and of the others, and of those within 4 deviations, kept.

    Args:
        score: (N,).
        threshold: the largest score that is kept.
        distance: to the nearest mode, in standard deviations, (N,).
    """
    keep, bad = score <= threshold, ~(distance <= FAR)

    def share(which: Tensor) -> float | None:
        return float(keep[which].double().mean()) if bool(which.any()) else None

    still = share(bad)
    return {
        "removed": None if still is None else 1 - still, "kept": share(~bad), "kept4": share(distance <= 4),
        "rejected": 1 - float(keep.double().mean()),
    }  # fmt: skip


def between(data: Modes, x: Tensor) -> dict[str, float]:
    """Where points lie: the share on a line between two nearest modes, and of the rest that on one between modes at up to twice that.

    Args:
        data: whose modes.
        x: (N, C, 1, 1), N >= 1.
    """
    points, centres = x.flatten(1).double(), data.centres
    apart = torch.cdist(centres, centres)
    least = float(apart[apart > 0].min())

    def on(low: float, high: float) -> Tensor:
        a, b = torch.nonzero((apart > low * least) & (apart <= high * least)).T
        along = centres[b] - centres[a]
        share = ((points[:, None] - centres[a]) * along).sum(-1) / along.square().sum(-1)
        away = points[:, None] - (centres[a] + share.clamp(0, 1)[..., None] * along)
        return (away.norm(dim=-1).min(1).values <= _NEAR * data.std) & ((share >= 0) & (share <= 1)).any(1)

    nearest = on(0, 1.01)
    return {"nearest": float(nearest.double().mean()), "next": float((on(1.01, 2.01) & ~nearest).double().mean())}

"""Filters without a threshold: which they are, and one that this run's scores suggest, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...diffusion.filtered import Filtered
from .tiles import spoken

__all__ = ["hints", "unbounded"]


def unbounded(filtered: Filtered) -> list[int]:
    """Which filters keep every score.

    Args:
        filtered: with names and bounds.
    """
    ends = enumerate(filtered.bounds)
    return [i for i, (least, most) in ends if least == -math.inf and most == math.inf]


def hints(filtered: Filtered, scores: Sequence[Sequence[float]]) -> list[str]:
    """A sentence for each filter without a threshold.

    Args:
        filtered: with names and bounds.
        scores: of each picture, one per filter.
    """
    found = []
    for i in unbounded(filtered):
        name = spoken(filtered.names[i])
        share = _share(sorted(each[i] for each in scores if math.isfinite(each[i])))
        tip = f" {share}; that number as its threshold keeps those." if share else ""
        found.append(
            f"{name[:1].upper()}{name[1:]} has no threshold, so nothing is rejected.{tip} Calibrating the filter on real pictures "
            "finds a threshold with a known share of good pictures lost."
        )  # fmt: skip
    return found


def _share(scores: Sequence[float]) -> str:
    """How many of sorted scores lie below which number of few digits, "" where none is between them."""
    count = len(scores)
    below = min(math.ceil(0.9 * count), count - 1)
    if below < 1 or not scores[below - 1] < scores[below]:
        return ""
    low, high = scores[below - 1], scores[below]
    middle = low + (high - low) / 2
    end = next((text for digits in range(2, 10) if low < float(text := f"{middle:.{digits}g}") < high), "")
    share = "nine of ten" if 0.88 <= below / count <= 0.92 else f"{below} of {count}"
    return f"{share[:1].upper()}{share[1:]} score below {end}" if end else ""

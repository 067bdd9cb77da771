"""Which steps a statistic of the trajectory looks at, and how much each of them counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from ...schedules.level import Level

__all__ = ["Weight", "check_window", "weights"]

Weight: TypeAlias = Literal["log_snr", "steps"]


def check_window(name: str, low: float, high: float, last: int | None, least: int) -> None:
    """Refuse a window that is empty, or said twice.

    Raises:
        ValueError: naming the part and the values.
    """
    if math.isnan(low) or math.isnan(high) or not low < high:
        raise ValueError(f"{name}(low={low}, high={high}); allowed: low < high, in log-SNR")
    if last is None:
        return
    if not isinstance(last, int) or isinstance(last, bool) or last < least:
        raise ValueError(
            f"{name}.last is {last!r}; allowed: a whole number >= {least}, or None for a window in log-SNR"
        )
    if (low, high) not in ((-math.inf, math.inf), (0.0, math.inf)):  # the latter is what nobody said
        raise ValueError(
            f"{name}(low={low}, high={high}, last={last}) says its window twice; with last leave low and high out"
        )


def weights(
    name: str, levels: Sequence[Level], low: float, high: float, last: int | None, weight: Weight = "steps", least: int = 2
) -> list[float]:  # fmt: skip
    """The weight of each step's prediction, 0 outside of the window.

    Args:
        name: of the filter, for messages.
        levels: that are walked along; step i begins at level i.
        low, high: the window, low <= log-SNR <= high, where a step begins.
        last: the last so many steps instead; None: by low and high.
        weight: "steps": 1 each. "log_snr": the log-SNR that the prediction stands for, half-way to the predictions before and after it
            that lie in the window, so that steps set closer count less each.
        least: predictions that the statistic needs.

    Raises:
        ValueError: for a window with fewer steps than `least`, naming where the steps are.
    """
    at = [float(level.log_snr) for level in levels[:-1]]
    inside = [i for i, v in enumerate(at) if (low <= v <= high if last is None else i >= len(at) - last)]
    if len(inside) < least:
        window = f"in log-SNR [{low:g}, {high:g}]" if last is None else f"among its last {last}"
        nearest = ", ".join(f"{v:.3g}" for v in at[-4:])
        raise ValueError(
            f"{name} sees {len(inside)} step(s) {window} and needs {least}; these {len(at)} steps end with log-SNR {nearest}: widen the "
            "window or take more steps"
        )
    found = [0.0] * len(at)
    if weight == "steps":
        for i in inside:
            found[i] = 1.0
        return found
    for a, b in pairwise(inside):
        half = abs(at[b] - at[a]) / 2
        if math.isfinite(half):  # a first step at pure noise stands for no stretch of log-SNR that could be measured
            found[a], found[b] = found[a] + half, found[b] + half
    if sum(w > 0 for w in found) < least:
        raise ValueError(
            f"{name} sees {sum(w > 0 for w in found)} step(s) of these {len(at)} that stand for a stretch of log-SNR (the first begins at "
            f"pure noise) and needs {least}: take more steps, or weight='steps'"
        )
    return found

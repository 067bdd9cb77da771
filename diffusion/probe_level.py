"""At which noise a picture must return: the level of the re-noise probe, from real samples without labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..schedules import Schedule
from ..schedules.schedule import entries, first_t

__all__ = ["CUT", "LevelPoint", "NoLevel", "candidates", "find_level"]

CUT = 12.0
"""Ratio of the 99th percentile of the round-trip error to its median at which a level is too noisy."""

# no model is asked nearer to data, or farther away, than this
TOP, BOTTOM, APART = 12.0, -4.0, 0.5


class NoLevel(ValueError):
    """The data have no level from which they return and beyond which some do not."""


class LevelPoint(NamedTuple):
    """The round-trip error of real samples at one level: its median, its 99th percentile, and their ratio."""

    log_snr: float
    median: float
    high: float

    @property
    def ratio(self) -> float:
        """high / median."""
        return self.high / max(self.median, 1e-30)


def candidates(schedule: Schedule) -> list[float]:
    """Log-SNRs to look at, the cleanest first: half a unit apart, for a table those of its entries.

    schedule: the model's.
    """
    top = min(float(schedule(first_t(schedule)).log_snr), TOP)
    bottom = max(float(schedule(1.0).log_snr), BOTTOM)
    count = entries(schedule)
    if count is None:
        return [top - APART * i for i in range(int((top - bottom) / APART) + 1)]
    found: list[float] = []
    for i in range(1, count + 1):
        at = float(schedule(i / count).log_snr)
        if bottom <= at <= top and (not found or at <= found[-1] - APART / 2):
            found.append(at)
    return found


def find_level(
    errors_at: Callable[[float], Tensor], log_snrs: Sequence[float], cut: float = CUT
) -> tuple[float | None, list[LevelPoint]]:
    """The noisiest level from which real samples still return, by the first crossing.

    Going from the cleanest level to noisier ones, it stops at the first where the error's 99th percentile is more than `cut` times its
    median: there some samples begin to fall into other modes. The level before is taken. The ratio falls again farther on, where all
    samples are lost, so it is the first crossing that counts.

    Args:
        errors_at: log-SNR -> round-trip errors of real samples, float (n,).
        log_snrs: falling.
        cut: see above, > 1.

    Raises:
        ValueError: for errors that are no numbers.

    Returns:
        The level, None where there is none (the cleanest is too noisy already, or no ratio ever crosses), and what was seen.
    """
    curve: list[LevelPoint] = []
    for at in log_snrs:
        errors = errors_at(at).double()
        if bool(errors.isnan().any()):
            raise ValueError(
                f"the round-trip error of real samples at log-SNR {at:.3g} is nan; the weights hold nan, or the data do"
            )
        median, high = torch.quantile(
            errors, torch.tensor([0.5, 0.99], dtype=errors.dtype, device=errors.device)
        ).tolist()
        curve.append(LevelPoint(at, median, high))
    before = None
    for point in curve:
        if point.ratio > cut:
            return before, curve
        before = point.log_snr
    return None, curve

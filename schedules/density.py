"""What a density of training noise levels is, and the density that a schedule has of its own."""

from __future__ import annotations

from typing import NamedTuple, Protocol, overload, runtime_checkable

import torch
from torch import Tensor

from .level import Level
from .scalar import Number
from .schedule import Schedule, entries

__all__ = ["EDGE", "Density", "Drawn", "count_of", "log_snr_density"]

# log-SNR beyond which a level is data or noise to working precision; infinite tails are cut here
EDGE = 20.0


class Drawn(NamedTuple):
    """Levels drawn for training, and the factor on each loss.

    level: of tensors (B,); weight: tensor (B,) or 1.0, what makes the expected loss that of another density.
    """

    level: Level
    weight: Tensor | float = 1.0


@runtime_checkable
class Density(Protocol):
    """A density of training noise levels, as its quantile function."""

    def __call__(self, u: Tensor, schedule: Schedule) -> Drawn:
        """Levels at the quantiles u, float64 (B,) in (0, 1); u uniform gives the density, u stratified gives strata of it."""
        ...


@overload
def log_snr_density(schedule: Schedule, log_snr: float) -> float: ...
@overload
def log_snr_density(schedule: Schedule, log_snr: Tensor) -> Tensor: ...
def log_snr_density(schedule: Schedule, log_snr: Number) -> Number:
    """The density of log-SNR on a schedule when t is uniform: -dt / d log-SNR, exact; 0 beyond the ends of the path.

    Args:
        schedule: the path.
        log_snr: a number, or float64 of any shape; +-inf included.

    Source: Kingma & Gao 2023 (2303.00848), section 2; Hang & Gu 2024 (2407.03297), eq. 5.
    """
    if not isinstance(log_snr, Tensor):
        return float(log_snr_density(schedule, torch.tensor(log_snr, dtype=torch.float64)))
    low, high = (float(schedule(t).log_snr) for t in (1.0, 0.0))
    slack = 1e-9  # a level's log-SNR is rounded
    inside = (log_snr >= low - slack) & (log_snr <= high + slack) & log_snr.isfinite()
    with torch.inference_mode(False), torch.enable_grad():
        at = torch.where(inside, log_snr, max(low, min(high, 0.0))).detach().clone().requires_grad_(True)
        t = schedule.at_log_snr(at).t
        assert isinstance(t, Tensor)
        (slope,) = torch.autograd.grad(t.sum(), at)
    return torch.where(inside, -slope, 0.0)


def count_of(schedule: Schedule, name: str) -> int:
    """The entries of a schedule's table.

    Raises:
        ValueError: when it is no table.
    """
    count = entries(schedule)
    if count is None:
        raise ValueError(
            f"{name} counts the entries of a table, and {type(schedule).__name__} is no table; give steps, in a recipe density.steps, such "
            "as 1000, or choose another density"
        )
    return count

"""What every schedule and weighting must be, ours or a plug-in: found out before anything is trained on it."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ..schedules import Schedule, Weighting

__all__ = ["check_forward"]


def check_forward(schedule: Schedule, weighting: Weighting) -> None:
    """Refuse a path that does not lead from data to noise, and weights that are no weights.

    Args:
        schedule: looked at at 33 times, forth and back.
        weighting: looked at at 33 log-SNRs.

    Raises:
        ValueError: saying what is wrong, where.
    """
    name = type(schedule).__name__
    t = torch.linspace(0.0, 1.0, 33, dtype=torch.float64)
    readings = [float(schedule(v).log_snr) for v in t.tolist()]
    if not readings[0] > readings[-1]:
        raise ValueError(
            f"schedule {name} has log-SNR {readings[0]:.4g} at t = 0 and {readings[-1]:.4g} at t = 1; allowed: data at t = 0 and noise at "
            "t = 1"
        )
    for place, (a, b) in enumerate(itertools.pairwise(readings)):
        if not a > b:
            raise ValueError(
                f"the log-SNR of schedule {name} does not fall between t = {t[place]:.4g} and {t[place + 1]:.4g}"
            )
    for value in t[1:-1:4].tolist():
        back = float(schedule.at_log_snr(float(schedule(value).log_snr)).t)
        if not abs(back - value) < 1e-6:
            raise ValueError(
                f"at_log_snr of schedule {name} is not its inverse: t = {value:.4g} comes back as {back:.6g}"
            )
    log_snr = torch.linspace(max(readings[-1], -15.0), min(readings[0], 15.0), 33, dtype=torch.float64)
    weights = weighting(log_snr)
    if not isinstance(weights, Tensor) or weights.shape != log_snr.shape:
        raise ValueError(f"weighting {type(weighting).__name__} returns no tensor of its argument's shape")
    wrong = ~(weights.isfinite() & (weights >= 0))
    if bool(wrong.any()):
        at = int(wrong.nonzero()[0])
        raise ValueError(
            f"weighting {type(weighting).__name__} is {float(weights[at]):.4g} at log-SNR {float(log_snr[at]):.4g}; allowed: finite, >= 0"
        )

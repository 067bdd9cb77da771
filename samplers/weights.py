"""Where the numbers of multistep methods come from: interpolation over past readings of a clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..schedules.level import Level
from ..schedules.scalar import Number
from .state import Vector

__all__ = ["exponential_means", "lagrange", "mix", "usable"]


def mix(weights: Sequence[Number], vectors: Sequence[Vector]) -> Vector:
    """sum_j weights[j] * vectors[j], at least one."""
    total = weights[0] * vectors[0]
    for w, v in zip(weights[1:], vectors[1:], strict=True):
        total = total + w * v
    return total


def lagrange(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """Weights w with sum_j w_j nodes_j^i = moments_i: exact for every polynomial through the nodes.

    Args:
        nodes: distinct numbers, one per vector.
        moments: the wanted functional of s^0, s^1, ..., as many as nodes.
    """
    scale = (
        max((abs(n) for n in nodes), default=0.0) or 1.0
    )  # nodes of about 1 keep the Vandermonde matrix well conditioned
    matrix = np.vander(np.array(nodes, dtype=np.float64) / scale, increasing=True).T
    wanted = np.array([m / scale**i for i, m in enumerate(moments)], dtype=np.float64)
    return np.linalg.solve(matrix, wanted).tolist()


def exponential_means(h: float, m: float, n: int) -> list[float]:
    """Means of s^i, i < n, over a step [0, h] under the weight e^(-m (h - s) / h), normalised to 1.

    What an exponential integrator needs to know of D(s) = s^i. By recursion for a long step, by its series for a short one,
    where the recursion cancels.

    Args:
        h: length of the step, not 0 (negative when walking up).
        m: decay over the step, h for an ODE and (1 + eta) h for an SDE.
        n: how many, >= 1.
    """
    k, weight = m / h, -math.expm1(-m)
    means = [1.0]
    for i in range(1, n):
        if abs(m) < 0.5:
            # integral of s^i e^(-k (h - s)) ds = h^(i+1) sum_j (-m)^j i! / (i + j + 1)!
            term, total = 1.0 / (i + 1), 0.0
            for j in range(30):
                total += term
                term *= -m / (i + j + 2)
            means.append(h**i * total * m / weight)
        else:
            means.append(h**i / weight - i * means[-1] / k)
    return means


def usable(clock: Callable[[Level], Number], past: Sequence[Level], now: Level, nxt: Level, limit: int) -> list[float]:
    """Past readings of a clock that a multistep method may use, newest first.

    A reading that is infinite (alpha = 0 first, sigma = 0 last) ends the list: dropping that node is the limit of the method.
    None are usable when the step itself is infinite.

    Args:
        clock: of a scalar level, such as `lambda level: level.half_log_snr`.
        past: levels before now, oldest first.
        now, nxt: the step.
        limit: how many predictions are remembered, >= 0.

    Raises:
        ValueError: for levels of tensors, and for levels that are equal.
    """
    if not (now.is_scalar and nxt.is_scalar):
        raise ValueError(
            "a multistep method needs one noise level per step, and these are per sample or per element; "
            "use DDIM, DDPM, Euler or Heun, which remember nothing"
        )
    here, there = float(clock(now)), float(clock(nxt))
    if not (math.isfinite(here) and math.isfinite(there)):
        return []
    readings: list[float] = []
    for level in reversed(past[len(past) - limit :] if limit else []):
        reading = float(clock(level))
        if not math.isfinite(reading):
            break
        readings.append(reading)
    if len({here, there, *readings}) < 2 + len(readings):
        raise ValueError(
            f"two levels of the walk are equal, near log-SNR {float(now.log_snr):.6g}; a multistep method needs distinct ones, such as "
            "a grid's"
        )
    return readings

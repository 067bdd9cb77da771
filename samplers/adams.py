"""The numbers of Adams-Bashforth."""

from __future__ import annotations

from collections.abc import Sequence

from .weights import lagrange

__all__ = ["ADAMS", "variable_adams"]

# weights of (e_n, e_{n-1}, ...) for equal steps, by how many there are
ADAMS: dict[int, list[float]] = {
    1: [1.0],
    2: [3 / 2, -1 / 2],
    3: [23 / 12, -16 / 12, 5 / 12],
    4: [55 / 24, -59 / 24, 37 / 24, -9 / 24],
    5: [1901 / 720, -2774 / 720, 2616 / 720, -1274 / 720, 251 / 720],
}


def variable_adams(now: float, nxt: float, past: Sequence[float]) -> list[float]:
    """The weights for any steps: exact for polynomials through the readings.

    Args:
        now, nxt: readings of the clock at both ends of the step.
        past: readings before now, newest first.
    """
    h = nxt - now
    return lagrange([0.0, *(v - now for v in past)], [h**i / (i + 1) for i in range(len(past) + 1)])

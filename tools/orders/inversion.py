"""Samplers run upward: data to noise against the truth, and back to the data."""

from __future__ import annotations

from collections.abc import Sequence

from ...samplers import DDIM, PLMS, DPMSolver2, DPMSolverPP, Heun, Sampler, UniPC, on_path
from .measure import walked
from .paths import DATA, Both, Path

__all__ = ["INVERTED", "ROUND_STEPS", "inversion_errors"]

ROUND_STEPS = (16, 32, 64, 128, 256)

# by name: the sampler, and by path the orders of the way up and of the round trip, on the mixture, that are expected at 64 to 256 steps.
# A one-step method of even order p walks back over its own error: what a step and the same step back leave together is of order p + 2,
# so round trips are of order p + 1 = 3. A multistep method remembers other points on the way back; on even steps in log g that costs
# little at first, and on VP, with steps uniform in t, it is still on its way from 1.5 to 2 upward, and its round trip passes zero.
INVERTED: dict[str, tuple[Sampler, dict[str, tuple[float, float]]]] = {
    "DDIM()": (DDIM(), {"vp": (1, 1), "ve": (1, 1)}),
    "Heun()": (Heun(), {"vp": (2, 3), "ve": (2, 3)}),
    "DPMSolver2()": (DPMSolver2(), {"vp": (2, 3), "ve": (2, 3)}),
    "DPMSolverPP(2)": (DPMSolverPP(2), {"vp": (1.74, 2.62), "ve": (2, 2.95)}),
    "UniPC(2)": (UniPC(2), {"vp": (2.67, 2.64), "ve": (3.09, 3)}),
    "PLMS(2, variable=True)": (PLMS(2, variable=True), {"vp": (2.11, 1.9), "ve": (2.05, 3)}),
}


def inversion_errors(path: Path, sampler: Sampler, steps: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Errors of walking up from data at the path's clean end, by kind of data.

    Args:
        path: whose levels are walked in both directions, each in the given number of steps.
        sampler: deterministic.
        steps: numbers of steps, one way.

    Returns:
        "up": the largest error at the noisy end, in standard deviations of the noise there; "back": the largest error of the data
        after the way back, in units of the data.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"up": [], "back": []} for name in DATA}
    on = on_path(sampler, path.schedule)
    for n in steps:
        levels = path.levels(n)
        x = levels[-1].alpha * path.exact
        up = walked(on, Both(), levels[::-1], x)
        back = walked(on, Both(), levels, up)
        apart = {"up": (up - path.start).abs() / levels[0].sigma, "back": (back - x).abs() / levels[-1].alpha}
        for way, error in apart.items():
            for name, part in zip(DATA, error.chunk(len(DATA)), strict=True):
                found[name][way].append(float(part.max()))
    return found

"""The rules of guidance as they are measured: along EDM's 32 levels, each with how many evaluations it should cost, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from ...guidance import (
    APG,
    CFG,
    Adaptive,
    Autoguidance,
    CFGPlusPlus,
    Guidance,
    Interval,
    LinearAdaptive,
    LinearPlan,
    Mix,
    Plain,
    Rescale,
    Threshold,
)
from ...schedules import Karras, Level, LinearBeta

__all__ = ["CASES", "COUNT", "STEPS", "Case", "Window", "edm_levels", "edm_ratios"]

STEPS, COUNT = 32, 16
LOW, HIGH = 0.28, 2.90  # EDM2-S


def edm_ratios() -> list[float]:
    """sigma / alpha where each step begins: 80 to 0.002, uniform in the seventh root; worked out apart from the grid that is sampled."""
    first, last = 80.0 ** (1 / 7), 0.002 ** (1 / 7)
    return [(first + i / (STEPS - 1) * (last - first)) ** 7 for i in range(STEPS)]


def edm_levels() -> list[Level]:
    """The same as levels of the linear-beta path, and the data behind them."""
    return Karras(0.002, 80.0)(LinearBeta(), STEPS)


class Window(NamedTuple):
    """Where operations are counted: from which call of a network on, for how many calls, which make how many steps."""

    first: int = 4
    calls: int = 8
    steps: int = 8


class Case(NamedTuple):
    """A rule.

    make: makes it. extra: evaluations per picture beside the conditional ones, over all steps. windows: where its operations are counted,
    by what is said of them. second, weak: whether it wants a branch of that name.
    """

    make: Callable[[], Guidance]
    extra: float
    windows: Mapping[str, Window] = {"": Window()}
    second: bool = False
    weak: bool = False


def _linear() -> LinearAdaptive:
    """Every second step recalled, as a sum over all that has been seen."""
    steps = [None if k % 2 == 0 else [1 / (2 * k + 1)] * (2 * k + 1) for k in range(STEPS)]
    return LinearAdaptive(LinearPlan(3.0, steps, [float(level.ratio) for level in edm_levels()[:-1]]))


_INSIDE = sum(LOW < ratio <= HIGH for ratio in edm_ratios())
_BOTH = {", inside": Window(16, _INSIDE, _INSIDE), ", outside": Window()}

CASES: dict[str, Case] = {
    "Plain": Case(Plain, 0),
    "CFG": Case(lambda: CFG(3.0), STEPS),
    "CFG, of every second picture": Case(lambda: CFG([3.0, 1.0] * (COUNT // 2)), STEPS / 2),
    "Interval(CFG)": Case(lambda: Interval(CFG(3.0), LOW, HIGH), _INSIDE, _BOTH),
    "Interval(Rescale(CFG))": Case(lambda: Interval(Rescale(CFG(3.0)), LOW, HIGH), _INSIDE, _BOTH),
    "CFGPlusPlus": Case(CFGPlusPlus, STEPS),
    "Rescale": Case(lambda: Rescale(CFG(3.0)), STEPS),
    "Threshold": Case(lambda: Threshold(CFG(3.0)), STEPS),
    "Threshold, quantile": Case(lambda: Threshold(CFG(3.0), quantile=0.995), STEPS),
    "APG": Case(lambda: APG(3.0, norm=2.5, momentum=-0.75), STEPS),
    "Mix of two": Case(lambda: Mix({"cond": 2.0, "second": 1.5}), 2 * STEPS, second=True),
    "Adaptive, half of the steps": Case(
        lambda: Adaptive(CFG(3.0), threshold=-1.0, least=STEPS // 2), STEPS / 2, {", before": Window(), ", after": Window(20)},
    ),
    "LinearAdaptive, every second step": Case(_linear, STEPS / 2),
    "Autoguidance": Case(Autoguidance, STEPS, {"": Window(8, 16, 8)}, weak=True),
    "Interval(Autoguidance)": Case(
        lambda: Interval(Autoguidance(), LOW, HIGH), _INSIDE, {**_BOTH, ", inside": Window(16, 2 * _INSIDE, _INSIDE)}, weak=True,
    ),
}  # fmt: skip

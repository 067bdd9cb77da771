"""How the time of a sampling call grows: time at twice over time at once, with a network of one operation and with a small UNet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import fmean

from torch import nn

from ...diffusion.model import Model
from ...samplers import DDIM, PLMS, Sampler
from ...samplers.filters import Filter, PathLength, TrajectoryVariance
from .sample_networks import OneOperation, model_of, small_unet, unsaid
from .sheet import Cell, Sheet, ratio_of
from .timing import times

__all__ = ["GROWTH", "line", "measure_growth"]

Taken = dict[int, list[float]]
"""Seconds per round, by the size that grows."""

_NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "network of one operation": lambda size: OneOperation(),
    "UNet": lambda size: small_unet(size),
}
_SIZE, _BATCH, _STEPS = 16, 8, 16
# every step of the walk lies in their windows, and none of them says no
_FILTERS: list[Filter] = [
    TrajectoryVariance(low=-9.0), PathLength(low=-9.0), TrajectoryVariance(low=-8.0), PathLength(low=-8.0),
]  # fmt: skip


def _call(
    model: Model, batch: int = _BATCH, steps: int = _STEPS, sampler: Sampler | None = None, filters: Sequence[Filter] = ()
) -> Callable[[], object]:  # fmt: skip
    return lambda: model.sample(
        range(batch), steps=steps, sampler=sampler or DDIM(), filters=filters, mark=bool(filters), batch=max(batch, 64)
    )


def _of_size(make: Callable[[int], nn.Module], size: int) -> Model:
    return model_of(make(size), (3, size, size))


# what grows: the sizes, and the call of each
_Runs = Callable[[Callable[[int], nn.Module], Model], dict[int, Callable[[], object]]]
_GROWS: dict[str, _Runs] = {
    "batch": lambda make, model: {n: _call(model, batch=n) for n in (8, 16, 32)},
    "steps": lambda make, model: {n: _call(model, steps=n) for n in (10, 20, 40, 80)},
    "size": lambda make, model: {n: _call(_of_size(make, n)) for n in (16, 32, 64)},
    "history": lambda make, model: {n: _call(model, sampler=PLMS(n)) for n in (1, 2, 3, 4)},
    "filters": lambda make, model: {n: _call(model, filters=_FILTERS[:n]) for n in (0, 1, 2, 4)},
}
GROWTH = tuple(_GROWS)


def line(taken: Taken) -> tuple[Cell, Cell]:
    """How far times lie from a line through nothing: where the line through them meets zero, in units of one more, and how it bends.

    Args:
        taken: at least three sizes, in rising order.

    Returns:
        The intercept of the line of least squares over its slope, round by round; the slope between the last two sizes over that
        between the first two, 1 for a line.
    """
    sizes = list(taken)
    middle = fmean(sizes)
    spread = sum((n - middle) ** 2 for n in sizes)
    intercepts: list[float] = []
    slopes: list[float] = []
    for seconds in zip(*taken.values(), strict=True):
        slope = sum((n - middle) * t for n, t in zip(sizes, seconds, strict=True)) / spread
        slopes.append(slope)
        intercepts.append(fmean(seconds) - slope * middle)
    return ratio_of(intercepts, slopes, ""), ratio_of(_slope(taken, *sizes[-2:]), _slope(taken, *sizes[:2]))


def _slope(taken: Taken, small: int, large: int) -> list[float]:
    return [(b - a) / (large - small) for a, b in zip(taken[small], taken[large], strict=True)]


def measure_growth(name: str, quick: bool, sheet: Sheet) -> None:
    """A row from each size to the next; of steps two more, of the line through them.

    Args:
        name: of GROWTH: what grows.
        quick: one round, whose times mean nothing.
        sheet: of the bench.
    """
    sheet.say(
        f"time of a call as {name} grow{'s' if name in ('batch', 'size', 'history') else ''}: at the second over at the first"
    )
    found: dict[str, Taken] = {}
    for network, make in _NETWORKS.items():
        runs = _GROWS[name](make, _of_size(make, _SIZE))
        with unsaid():
            taken = times({str(n): run for n, run in runs.items()}, 1 if quick else 15, cuda=False)
        found[network] = {int(n): seconds for n, seconds in taken.items()}
    for small, large in pairwise(next(iter(found.values()))):
        cells = {network: ratio_of(taken[large], taken[small]) for network, taken in found.items()}
        sheet.add(f"{name}, {small} to {large}", cells)
    if name == "steps":
        lines = {network: line(taken) for network, taken in found.items()}
        sheet.add("set-up of a call, in steps", {network: both[0] for network, both in lines.items()})
        sheet.add("a later step over an early one", {network: both[1] for network, both in lines.items()})

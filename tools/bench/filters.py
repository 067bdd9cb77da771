"""What filters of the trajectory cost beside the network: operations per step, and time as a share of a network's evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...diffusion.backbones import DiT, UNet
from ...samplers import DDIM, Step, tabulate, trajectory
from ...samplers.filters import Filter, PathLength, TrajectoryVariance
from ...schedules import Level, Prediction, Row
from .count import UNITS, Counts, count
from .floors import Network
from .goals import Goal
from .kind import Ask, Kind
from .methods import ROWS, levels_for
from .sheet import Cell, Sheet, exact, ratio_of
from .timing import times

__all__ = ["BACKBONES", "FILTERING", "FILTERS", "Backbone", "added", "shares"]

STEPS = 30

# every step of the middle of the walk lies in their windows
FILTERS: dict[str, Filter] = {
    "TrajectoryVariance": TrajectoryVariance(low=-9.0, high=9.0),
    "TrajectoryVariance.paper": TrajectoryVariance.paper(last=STEPS - 1),
    "PathLength": PathLength(low=-9.0, high=9.0),
}


class Backbone(NamedTuple):
    """A network, and the batch that it is shown."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


BACKBONES: dict[str, Backbone] = {
    "UNet of the quickstart, 64 x 1 x 8 x 8": Backbone(
        lambda: UNet(1, 8, 0, width=16, multipliers=(1, 2), blocks=1, attention=()), (64, 1, 8, 8)
    ),
    "UNet of the quickstart, 1 x 1 x 8 x 8": Backbone(
        lambda: UNet(1, 8, 0, width=16, multipliers=(1, 2), blocks=1, attention=()), (1, 1, 8, 8)
    ),
    "UNet 64, 1 x 3 x 64 x 64": Backbone(lambda: UNet(3, 64, 0), (1, 3, 64, 64)),
    "DiT-S/2, 1 x 4 x 32 x 32": Backbone(lambda: DiT(4, 32, 0), (1, 4, 32, 32)),
}


def added(name: str, rows: str) -> Counts:
    """What a filter adds per evaluation of DDIM, in the middle of a walk: solving for x0 included, where the sampler needs none.

    Args:
        name: of FILTERS.
        rows: of ROWS.
    """
    torch.manual_seed(0)
    x, row = torch.randn(1, 3, 32, 32), ROWS[rows]
    levels = levels_for(row, STEPS)
    alone, watched = (count(_walk(judge, levels, row), x, 10, 8) for judge in (None, FILTERS[name]))
    return Counts(*(a - b for a, b in zip(watched, alone, strict=True)))


def _walk(judge: Filter | None, levels: Sequence[Level], row: Row | None) -> Callable[[Network, Tensor], object]:
    table = tabulate(DDIM(), levels)

    def walk(network: Network, x: Tensor) -> Any:
        def denoise(x: Tensor, level: Level) -> Prediction:
            out = network(x)
            return Prediction.pair(out, out) if row is None else Prediction(x, level, out, row)

        memory = None if judge is None else judge.init(x, levels)
        for step in trajectory(DDIM(), denoise, levels, x, table=table):
            memory = None if judge is None else judge.update(memory, step)
            del step  # as `fill` does
        return None if judge is None else judge.verdict(memory)

    return walk


def shares(backbone: str, repeats: int, device: str) -> dict[str, Cell]:
    """Time that a filter takes per step, as a share of one evaluation of a network; interleaved.

    A step's share of `init` and `verdict` is in it, and so is solving for x0.

    Args:
        backbone: of BACKBONES.
        repeats: rounds, >= 1.
        device: cpu or cuda.
    """
    torch.manual_seed(0)
    made = BACKBONES[backbone]
    net, row = made.make().eval().to(device), ROWS["v"]
    levels = levels_for(row, STEPS)
    x, out, time = (
        torch.randn(made.shape, device=device),
        torch.randn(made.shape, device=device),
        torch.zeros(made.shape[0]).to(device),
    )

    def watch(judge: Filter) -> None:
        memory = judge.init(x, levels)
        for i in range(STEPS):
            p = Prediction(x, levels[i], out, row)
            step = Step(i, i == STEPS - 1, levels[i], levels[i + 1], x, p, lambda x, level: Prediction.pair(x, x), None)
            memory = judge.update(memory, step)
        judge.verdict(memory)

    runs: dict[str, Callable[[], object]] = {"network": lambda: net(x, time)}
    runs |= {name: lambda judge=judge: watch(judge) for name, judge in FILTERS.items()}
    taken = times(runs, repeats, device != "cpu")
    alone = [seconds * STEPS for seconds in taken.pop("network")]
    return {name: ratio_of(seconds, alone, "%") for name, seconds in taken.items()}


def _measure(ask: Ask, sheet: Sheet) -> None:
    names = list(FILTERS) if ask.only is None else [ask.only]
    sheet.say("per step, what a filter adds to DDIM; counted by the profiler")
    for name in names:
        for rows in ROWS:
            counts = added(name, rows)._asdict()
            sheet.add(f"{name}, {rows}", {UNITS[k]: exact(round(v, 3) + 0.0) for k, v in counts.items()})
    sheet.say("time per step, as a share of one evaluation of the network")
    for backbone in BACKBONES:
        found = shares(backbone, 1 if ask.quick else 15, ask.device)
        sheet.add(backbone, {name: found[name] for name in names})


FILTERING = Kind(
    _measure, tuple(FILTERS), takes=("cuda",),
    goals=tuple(Goal(f"{name} per step, {backbone}", "filters", backbone, name, 0.02) for backbone in BACKBONES for name in FILTERS),
)  # fmt: skip

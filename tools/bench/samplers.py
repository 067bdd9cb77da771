"""The samplers' own cost: one case is a method, a kind of answer and a shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...samplers import tabulate, trajectory
from ...schedules import Level, Noise, Prediction, Row
from .count import UNITS, count
from .floors import Network
from .goals import Goal
from .kind import Ask, Kind
from .methods import METHODS, ROWS, Method, levels_for
from .peers import azula_walk, diffusers_walk, installed, k_diffusion_walk
from .sheet import Cell, Sheet, exact, ratio_of
from .timing import times

__all__ = ["SAMPLING", "counted", "ours", "timed"]

Walk = Callable[[Network, Tensor], object]

# shape, steps, rounds
SHAPES = (((1, 3, 32, 32), 50, 40), ((16, 4, 64, 64), 50, 15), ((16, 3, 256, 256), 10, 5))
PEERS = ("diffusers", "k-diffusion", "azula")


def ours(method: Method, levels: Sequence[Level], row: Row | None, noise: Noise) -> Walk:
    """Our sampler in our loop as `Model.sample` runs it, with a table that all batches share."""
    table = tabulate(method.sampler, levels)

    def walk(network: Network, x: Tensor) -> Tensor:
        def denoise(x: Tensor, level: Level) -> Prediction:
            out = network(x)
            return Prediction.pair(out, out) if row is None else Prediction(x, level, out, row)

        end = x
        for step in trajectory(method.sampler, denoise, levels, x, noise, table=table, predictions=False):
            if step.last:
                end = step.x
            del step  # as `fill` does
        return end

    return walk


def _walks(name: str, rows: str, steps: int, x: Tensor, against: Sequence[str]) -> dict[str, Walk]:
    """The floor, ours, and the peers of a method. A pair is held against the floor of the data: it says two things where one will do."""
    method, row = METHODS[name], ROWS[rows]
    levels, read = levels_for(row, steps), row or ROWS["x0"]
    assert read is not None
    z = torch.empty_like(x)

    def noise(step: int, draw: int) -> Tensor:
        return z.normal_()

    walks: dict[str, Walk] = {"floor": method.floor(levels, read, noise), "ours": ours(method, levels, row, noise)}
    if "diffusers" in against and row is not None and method.diffusers is not None:
        walks["diffusers"] = diffusers_walk(*method.diffusers, read, steps, str(x.device))
    sigmas = torch.tensor([float(level.ratio) for level in levels], device=x.device)
    if "k-diffusion" in against and rows == "x0" and method.k_diffusion is not None:
        walks["k-diffusion"] = k_diffusion_walk(method.k_diffusion, sigmas)
    if "azula" in against and rows == "x0" and method.azula is not None:
        walks["azula"] = azula_walk(*method.azula, sigmas)
    return walks


def counted(name: str, rows: str, against: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """Operations, syncs and fresh tensors per evaluation, in the middle of a trajectory: {who: counts}."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    walks = _walks(name, rows, 30, x, against)
    return {who: count(walk, x, 10, 8)._asdict() for who, walk in walks.items()}


def timed(
    name: str, rows: str, shape: Sequence[int], steps: int, repeats: int, against: Sequence[str], device: str
) -> dict[str, list[float]]:
    """Seconds per round of a trajectory with a network of one operation; "network" is that of the network alone."""
    torch.manual_seed(0)
    x = torch.randn(*shape, device=device)
    walks: dict[str, Any] = _walks(name, rows, steps, x, against)
    runs = {who: lambda walk=walk: walk(lambda x: x * 0.5, x) for who, walk in walks.items()}
    evaluations = _evaluations(walks["floor"], x)

    def alone() -> None:
        for _ in range(evaluations):
            x * 0.5  # pyright: ignore[reportUnusedExpression]

    return times({**runs, "network": alone}, repeats, device != "cpu")


def _evaluations(walk: Walk, x: Tensor) -> int:
    """How often a walk asks the network."""
    calls: list[None] = []

    def network(x: Tensor) -> Tensor:
        calls.append(None)
        return x * 0.5

    with torch.no_grad():
        walk(network, x)
    return len(calls)


def _times(found: dict[str, list[float]], who: str) -> dict[str, Cell]:
    """A side beside the floor, and ours beside it; with the network's own time taken off all."""
    alone = found["network"]
    side, floor, us = ([t - n for t, n in zip(found[k], alone, strict=True)] for k in (who, "floor", "ours"))
    return {
        "times the floor": ratio_of(side, floor), "times ours": ratio_of(side, us),
        "times the floor, network included": ratio_of(found[who], found["floor"]),
        "times ours, network included": ratio_of(found[who], found["ours"]),
    }  # fmt: skip


def _measure(ask: Ask, sheet: Sheet) -> None:
    against = [peer for peer in ask.against if installed(peer)]
    for peer in ask.against:
        if peer not in against:
            sheet.lacks(peer, "not installed")
    names = list(METHODS) if ask.only is None else [ask.only]
    sheet.say("per evaluation, without the network's own operation; counted by the profiler")
    for name in names:
        for rows in ROWS:
            for who, counts in counted(name, rows, against).items():
                sheet.add(f"{name}, {rows}, {who}", {UNITS[k]: exact(round(v, 3) + 0.0) for k, v in counts.items()})
    sheet.say("time of the steps, without the network's, beside a minimal loop written by hand and beside ours")
    for shape, steps, rounds in SHAPES:
        if ask.quick:
            steps, rounds = 4, 1
        for name in names:
            for rows in ROWS:
                found = timed(name, rows, shape, steps, rounds, against, ask.device)
                for who in found:
                    if who not in ("floor", "network"):
                        sheet.add(f"{name}, {rows}, {'x'.join(map(str, shape))}, {who}", _times(found, who))


_SMALL, _LARGE = "1x3x32x32", "16x4x64x64"
_TIMED = ("DDIM", "DPMSolverPP(2)", "UniPC(2)")
_PYTHON = "the operations are those of the minimal loop; Python, above all the look at who holds a tensor, takes 4 to 9 us a step"
_CEILING = f"the minimal loop itself is only 5 to 6 times less than diffusers here; {_PYTHON}"
SAMPLING = Kind(
    _measure, tuple(METHODS), PEERS, takes=("cuda",),
    goals=(
        *(Goal(f"step of {name}, network of {rows}, {_LARGE}, beside the minimal loop", "samplers", f"{name}, {rows}, {_LARGE}, ours",
               "times the floor", 1.15, why=_PYTHON) for name in _TIMED for rows in ("x0", "v")),
        *(Goal(f"diffusers' step of {name}, network of {rows}, {shape}, beside ours", "samplers", f"{name}, {rows}, {shape}, diffusers",
               "times ours", limit, at_most=False, why=why) for shape, limit, why in ((_LARGE, 5.0, _CEILING), (_SMALL, 10.0, _PYTHON))
          for name in _TIMED[1:] for rows in ("x0", "v")),
        *(Goal(f"syncs per step of {name}", "samplers", f"{name}, x0, ours", "syncs", 0.0) for name in _TIMED),
        *(Goal(f"fresh tensors per step of {name}", "samplers", f"{name}, x0, ours", "fresh tensors", 0.1) for name in _TIMED),
    ),
)  # fmt: skip

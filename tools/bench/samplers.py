"""The samplers' own cost: one case is a method, a kind of answer and a shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...samplers import tabulate, trajectory
from ...schedules import Level, Noise, Prediction, Row
from .count import count
from .floors import Network
from .methods import METHODS, ROWS, Method, levels_for
from .peers import diffusers_walk, installed, k_diffusion_walk
from .timing import ratios

__all__ = ["counted", "ours", "timed"]

Walk = Callable[[Network, Tensor], object]


def ours(method: Method, levels: Sequence[Level], row: Row | None, noise: Noise) -> Walk:
    """Our sampler in our loop, with a table that all batches share."""
    table = tabulate(method.sampler, levels)

    def walk(network: Network, x: Tensor) -> Tensor:
        def denoise(x: Tensor, level: Level) -> Prediction:
            out = network(x)
            return Prediction.pair(out, out) if row is None else Prediction(x, level, out, row)

        last = x
        for step in trajectory(method.sampler, denoise, levels, x, noise, table=table):
            last = step.x
            del step  # as `fill` does
        return last

    return walk


def _walks(name: str, rows: str, steps: int, x: Tensor, peers: bool) -> dict[str, Walk]:
    """The floor, ours, and the peers of a method. A pair is held against the floor of the data: it says two things where one will do."""
    method, row = METHODS[name], ROWS[rows]
    levels, read = levels_for(row, steps), row or ROWS["x0"]
    assert read is not None
    z = torch.empty_like(x)

    def noise(step: int, draw: int) -> Tensor:
        return z.normal_()

    walks: dict[str, Walk] = {"floor": method.floor(levels, read, noise), "ours": ours(method, levels, row, noise)}
    if peers and row is not None and method.diffusers is not None and installed("diffusers"):
        walks["diffusers"] = diffusers_walk(*method.diffusers, read, steps, str(x.device))
    if peers and rows == "x0" and method.k_diffusion is not None and installed("k_diffusion"):
        sigmas = torch.tensor([float(level.ratio) for level in levels], device=x.device)
        walks["k_diffusion"] = k_diffusion_walk(method.k_diffusion, sigmas)
    return walks


def counted(name: str, rows: str, peers: bool = True) -> dict[str, dict[str, float]]:
    """Operations, syncs and fresh tensors per evaluation, in the middle of a trajectory: {who: counts}."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 32, 32)
    walks = _walks(name, rows, 30, x, peers)
    return {who: count(walk, x, 10, 8)._asdict() for who, walk in walks.items()}


def timed(name: str, rows: str, shape: Sequence[int], steps: int, repeats: int, device: str) -> dict[str, float]:
    """The time of a trajectory with a network of one operation, as a ratio to the floor; "network" is that of the network alone."""
    torch.manual_seed(0)
    x = torch.randn(*shape, device=device)
    walks: dict[str, Any] = _walks(name, rows, steps, x, peers=True)
    runs = {who: lambda walk=walk: walk(lambda x: x * 0.5, x) for who, walk in walks.items()}
    evaluations = _evaluations(walks["floor"], x)

    def alone() -> None:
        for _ in range(evaluations):
            x * 0.5  # pyright: ignore[reportUnusedExpression]

    return ratios({**runs, "network": alone}, repeats, device != "cpu")


def _evaluations(walk: Walk, x: Tensor) -> int:
    """How often a walk asks the network."""
    calls: list[None] = []

    def network(x: Tensor) -> Tensor:
        calls.append(None)
        return x * 0.5

    with torch.no_grad():
        walk(network, x)
    return len(calls)

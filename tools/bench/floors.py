"""The least that a method can cost: loops in place, written by hand, with numbers worked out once on the host.

Each takes the same steps as one of our samplers, which a test compares; nothing of `samplers` runs in them. An output is the
data on a variance-exploding path (alpha = 1, where numbers sum to one and two vectors are lerped in one pass), or any row on any
path. The network's output is theirs to write to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.prediction import solve
from ...schedules.rows import X0, Row

__all__ = [
    "Floor",
    "Means",
    "Network",
    "Step",
    "data_means",
    "ddpm",
    "heun",
    "lerped_mean",
    "noise_means",
    "solved",
    "steps_of",
]

Network = Callable[[Tensor], Tensor]
Floor = Callable[[Network, Tensor], Tensor]
Means = Callable[[int], Sequence[float]]
"""Weights of the newest prediction, the one before, ..., in the mean that step i goes along."""


@dataclass(frozen=True)
class Step:
    """x' = kept x + data x0 = grown x + noise eps, with x0 = c x + d out and eps = e x + f out.

    lerps: whether x0 is the output and alpha = 1, so that kept + data = 1.
    """

    kept: float
    data: float
    grown: float
    noise: float
    c: float
    d: float
    e: float
    f: float
    lerps: bool


def steps_of(levels: Sequence[Level], row: Row) -> list[Step]:
    """The numbers of every step between levels whose ends are finite."""
    found: list[Step] = []
    for now, nxt in pairwise(levels):
        (c, d), (e, f) = ((float(v) for v in pair) for pair in solve(row, now))
        kept, grown = float(nxt.sigma / now.sigma), float(nxt.alpha / now.alpha)
        data, noise = float(nxt.alpha - kept * now.alpha), float(nxt.sigma - grown * now.sigma)
        lerps = row == X0() and bool(now.alpha == nxt.alpha == 1.0)
        found.append(Step(kept, data, grown, noise, c, d, e, f, lerps))
    return found


def data_means(levels: Sequence[Level], row: Row, means: Means, held: int) -> Floor:
    """x' = kept x + data (w0 D + w1 D' + ...): DDIM, DPM-Solver++."""
    steps = steps_of(levels, row)
    weights = [list(means(i)) for i in range(len(steps))]

    def lerped(network: Network, x: Tensor) -> Tensor:
        x, old = x.clone(), []
        for step, w in zip(steps, weights, strict=True):
            history = [network(x), *old][: held + 1]
            torch.lerp(lerped_mean(w, history, held), x, step.kept, out=x)
            old = history[:held]
        return x

    def added(network: Network, x: Tensor) -> Tensor:
        x, old = x.clone(), []  # (tensor, what it is to be multiplied by)
        for step, w in zip(steps, weights, strict=True):
            out = network(x)
            if not held:
                x.mul_(step.kept + step.data * step.c).add_(out, alpha=step.data * step.d)
                continue
            history = [solved(x, out, step.c, step.d), *old]
            x.mul_(step.kept)
            for v, (vector, scale) in zip(w, history, strict=False):
                x.add_(vector, alpha=step.data * v * scale)
            old = history[:held]
        return x

    return lerped if steps[0].lerps else added


def lerped_mean(weights: Sequence[float], history: Sequence[Tensor], held: int) -> Tensor:
    """The weighted mean of the newest tensors of a history; written over the oldest where it is not held any longer."""
    if len(weights) == 1:
        return history[0]
    oldest, total = history[len(weights) - 1], weights[-1]
    mean = oldest if len(weights) > held else oldest.clone()
    for w, vector in reversed(list(zip(weights[:-1], history, strict=False))):
        total += w
        mean.lerp_(vector, w / total)
    return mean


def solved(x: Tensor, out: Tensor, c: float, d: float) -> tuple[Tensor, float]:
    """c x + d out in the place of out, up to a scale, which saves a multiplication."""
    return (out, d) if c == 0 else (torch.add(x, out, alpha=d / c, out=out), c)


def noise_means(levels: Sequence[Level], row: Row, means: Means, held: int) -> Floor:
    """x' = grown x + noise (w0 eps + w1 eps' + ...): Adams-Bashforth, gradient estimation."""
    steps = steps_of(levels, row)
    weights = [list(means(i)) for i in range(len(steps))]

    def loop(network: Network, x: Tensor) -> Tensor:
        x, old = x.clone(), []
        for step, w in zip(steps, weights, strict=True):
            history = [solved(x, network(x), step.e, step.f), *old]
            if step.grown != 1.0:
                x.mul_(step.grown)
            for v, (vector, scale) in zip(w, history, strict=False):
                x.add_(vector, alpha=step.noise * v * scale)
            old = history[:held]
        return x

    return loop


def heun(levels: Sequence[Level], row: Row) -> Floor:
    """Two evaluations; x' = grown x + noise (eps + eps at the Euler point) / 2."""
    steps = steps_of(levels, row)
    solved_there = [(0.0, 0.0) if nxt.sigma == 0 else solve(row, nxt)[1] for nxt in levels[1:]]
    ends = [(float(e), float(f)) for e, f in solved_there]

    def loop(network: Network, x: Tensor) -> Tensor:
        x, there = x.clone(), torch.empty_like(x)
        for step, (e, f) in zip(steps, ends, strict=True):
            out, r, q = network(x), step.kept + step.data * step.c, step.data * step.d
            if e == f == 0:
                torch.lerp(out, x, r, out=x) if step.lerps else x.mul_(r).add_(out, alpha=q)
                continue
            half = step.noise / 2
            a, b, c = step.grown + half * (step.e + e * r), half * (step.f + e * q), half * f
            if step.lerps:
                second = network(torch.lerp(out, x, r, out=there))
                torch.lerp(out.lerp_(second, c / (b + c)), x, a, out=x)
            else:
                second = network(torch.mul(x, r, out=there).add_(out, alpha=q))
                x.mul_(a).add_(out, alpha=b).add_(second, alpha=c)
        return x

    return loop


def ddpm(levels: Sequence[Level], row: Row, noise: Callable[[int, int], Tensor]) -> Floor:
    """x' = kept x + data x0 + fresh z, with the posterior's variance."""
    numbers: list[tuple[float, float, float]] = []
    for now, nxt in pairwise(levels):
        (c, d), _ = solve(row, now)
        kept = (nxt.sigma / now.sigma) ** 2 * now.alpha / nxt.alpha
        data = nxt.alpha - kept * now.alpha
        fresh = nxt.sigma * max(0.0, 1 - (nxt.ratio / now.ratio) ** 2) ** 0.5
        numbers.append((float(kept + data * c), float(data * d), float(fresh)))
    lerps = steps_of(levels, row)[0].lerps

    def loop(network: Network, x: Tensor) -> Tensor:
        x = x.clone()
        for i, (a, b, fresh) in enumerate(numbers):
            out, z = network(x), noise(i, 0)
            if lerps:
                torch.lerp(out, x, a, out=x)
            else:
                x.mul_(a).add_(out, alpha=b)
            if fresh:
                x.add_(z, alpha=fresh)
        return x

    return loop

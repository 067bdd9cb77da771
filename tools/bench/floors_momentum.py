"""The least that methods with an average of their own, or a corrector, can cost; see `floors`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.rows import Row
from .floors import Floor, Means, Network, Step, solved, steps_of

__all__ = ["data_momentum", "noise_momentum", "unipc"]


def noise_momentum(
    levels: Sequence[Level], row: Row, means: Means, held: int, beta: float, velocities: bool
) -> Floor:
    """v = (1 - beta) v + beta f, along eps.

    velocities: GHVB, f = eps and x' goes along the means of the v's; else heavy ball, f is the mean of the eps and x' goes along v.
    """
    steps = steps_of(levels, row)
    weights = [list(means(i)) for i in range(len(steps))]

    def loop(network: Network, x: Tensor) -> Tensor:
        x = x.clone()
        old: list[tuple[Tensor, float]] = []
        v, size = x, 0.0  # the average is size * v
        for i, (step, w) in enumerate(zip(steps, weights, strict=True)):
            eps, scale = solved(x, network(x), step.e, step.f)
            if velocities:
                if i:  # v + (beta scale / (1 - beta) size) eps, or the other way round: one pass
                    before, size = old[0]
                    eps = eps.add_(before, alpha=(1 - beta) * size / (beta * scale))
                    scale *= beta
                old = [(eps, scale), *old]
                along = list(zip(w, old, strict=False))
            else:
                old = [(eps, scale), *old]
                if i == 0:
                    v, size = eps.clone(), scale
                else:
                    size *= 1 - beta
                    for a, (vector, s) in zip(w, old, strict=False):
                        v.add_(vector, alpha=beta * a * s / size)
                along = [(1.0, (v, size))]
            if step.grown != 1.0:
                x.mul_(step.grown)
            for a, (vector, s) in along:
                x.add_(vector, alpha=step.noise * a * s)
            old = old[:held]
        return x

    return loop


def data_momentum(levels: Sequence[Level], row: Row, means: Means, held: int, beta: float) -> Floor:
    """v = (1 - beta) v + beta (w0 D + w1 D' + ...), along the data; a first-order step carries no momentum."""
    steps = steps_of(levels, row)
    weights = [list(means(i)) for i in range(len(steps))]

    def loop(network: Network, x: Tensor) -> Tensor:
        x = x.clone()
        old: list[tuple[Tensor, float]] = []
        v, size, carried = torch.empty_like(x), 0.0, False
        for step, w in zip(steps, weights, strict=True):
            history = [solved(x, network(x), step.c, step.d), *old]
            if len(w) == 1:
                vector, s, carried = *history[0], False
            else:
                if carried:
                    size *= 1 - beta
                    for a, (vector, s) in zip(w, history, strict=False):
                        v.add_(vector, alpha=beta * a * s / size)
                else:
                    (a, (first, s)), *rest = zip(w, history, strict=False)
                    size = a * s
                    (b, (second, t)), *rest = rest
                    torch.add(first, second, alpha=b * t / size, out=v)
                    for b, (vector, t) in rest:
                        v.add_(vector, alpha=b * t / size)
                vector, s, carried = v, size, True
            if vector is v or not step.lerps:
                x.mul_(step.kept).add_(vector, alpha=step.data * s)
            else:
                torch.lerp(vector, x, step.kept, out=x)
            old = history[:held]
        return x

    return loop


def unipc(levels: Sequence[Level], row: Row, predictors: Means, correctors: Means) -> Floor:
    """A mean of (D, D', ...) predicts, one of (D', D, D'', ...) corrects where the step before began.

    predictors, correctors: weights of step i; the corrector is asked from step 1 on.
    """
    steps = steps_of(levels, row)
    weights = [(list(predictors(i)), list(correctors(i)) if i else []) for i in range(len(steps))]

    def loop(network: Network, x: Tensor) -> Tensor:
        x, begun, mean = x.clone(), x.clone(), torch.empty_like(x)
        old: list[tuple[Tensor, float]] = []
        for i, (step, (w, v)) in enumerate(zip(steps, weights, strict=True)):
            now = solved(x, network(x), step.c, step.d)
            if i:
                _combine(steps[i - 1], begun, begun, mean, v, [old[0], now, *old[1:]])
            _combine(step, begun, x, mean, w, [now, *old])
            old = [now, *old][:2]
        return x

    return loop


def _combine(
    step: Step, x: Tensor, out: Tensor, mean: Tensor, weights: Sequence[float], history: Sequence[tuple[Tensor, float]]
) -> None:
    """out = kept x + data * (the weighted mean of the history)."""
    if not step.lerps:
        torch.mul(x, step.kept, out=out)
        for w, (vector, scale) in zip(weights, history, strict=False):
            out.add_(vector, alpha=step.data * w * scale)
        return
    first, total = history[0][0], weights[0]
    for w, (vector, _) in zip(weights[1:], history[1:], strict=False):
        total += w
        first = torch.lerp(first, vector, w / total, out=mean)
    torch.lerp(first, x, step.kept, out=out)

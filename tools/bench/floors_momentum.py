"""The least that methods with an average of their own, or a corrector, can cost; see `floors`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...schedules.level import Level
from ...schedules.rows import Row
from .floors import Floor, Means, Network, lerped_mean, solved, steps_of

__all__ = ["data_momentum", "noise_momentum", "unipc"]


def noise_momentum(levels: Sequence[Level], row: Row, means: Means, held: int, beta: float, velocities: bool) -> Floor:
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

    def lerped(network: Network, x: Tensor) -> Tensor:
        x, old, v = x.clone(), [], None
        for step, w in zip(steps, weights, strict=True):
            history = [network(x), *old]
            mean = lerped_mean(w, history, held)
            v = None if len(w) == 1 else mean if v is None else v.lerp_(mean, beta)
            torch.lerp(mean if v is None else v, x, step.kept, out=x)
            old = history[:held]
        return x

    def added(network: Network, x: Tensor) -> Tensor:
        x, old = x.clone(), []
        v, size, carried = torch.empty_like(x), 0.0, False
        for step, w in zip(steps, weights, strict=True):
            history = [solved(x, network(x), step.c, step.d), *old]
            terms = [(a * s, vector) for a, (vector, s) in zip(w, history, strict=False)]
            if carried and len(w) > 1:
                size *= 1 - beta
                for a, vector in terms:
                    v.add_(vector, alpha=beta * a / size)
            elif len(w) > 1:
                (size, first), (a, second), *rest = terms
                torch.add(first, second, alpha=a / size, out=v)
                for a, vector in rest:
                    v.add_(vector, alpha=a / size)
            carried = len(w) > 1
            along, s = (v, size) if carried else history[0]
            x.mul_(step.kept).add_(along, alpha=step.data * s)
            old = history[:held]
        return x

    return lerped if steps[0].lerps else added


def unipc(levels: Sequence[Level], row: Row, predictors: Means, correctors: Means) -> Floor:
    """A mean of (D, D', ...) predicts, one of (D', D, D'', ...) corrects where the step before began.

    predictors, correctors: weights of step i; the corrector is asked from step 1 on.
    """
    steps = steps_of(levels, row)
    weights = [(list(predictors(i)), list(correctors(i)) if i else []) for i in range(len(steps))]

    def lerped(network: Network, x: Tensor) -> Tensor:
        x, begun, old, mean = x.clone(), x.clone(), [], torch.empty_like(x)
        for i, (step, (w, v)) in enumerate(zip(steps, weights, strict=True)):
            out = network(x)
            if i:
                torch.lerp(_mean(v, [old[0], out, *old[1:]], mean), begun, steps[i - 1].kept, out=begun)
            torch.lerp(_mean(w, [out, *old], mean), begun, step.kept, out=x)
            old = [out, *old][:2]
        return x

    def added(network: Network, x: Tensor) -> Tensor:
        x, begun, size, old = x.clone(), x.clone(), 1.0, []  # where the step before began is size * begun
        for i, (step, (w, v)) in enumerate(zip(steps, weights, strict=True)):
            now, before = solved(x, network(x), step.c, step.d), steps[i - 1]
            if i:
                size *= before.kept
                for a, (vector, s) in zip(v, [old[0], now, *old[1:]], strict=False):
                    begun.add_(vector, alpha=before.data * a * s / size)
            torch.mul(begun, step.kept * size, out=x)
            for a, (vector, s) in zip(w, [now, *old], strict=False):
                x.add_(vector, alpha=step.data * a * s)
            old = [now, *old][:2]
        return x

    return lerped if steps[0].lerps else added


def _mean(weights: Sequence[float], history: Sequence[Tensor], out: Tensor) -> Tensor:
    """The weighted mean of the newest tensors of a history, all of which are still needed."""
    mean, total = history[0], weights[0]
    for w, vector in zip(weights[1:], history[1:], strict=False):
        total += w
        mean = torch.lerp(mean, vector, w / total, out=out)
    return mean

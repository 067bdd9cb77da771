"""What tests of guidance share: exact conditional networks, their branches, and walks under a rule."""

import math

import torch

from sfumato.guidance import Branch, Field
from sfumato.samplers import trajectory
from sfumato.schedules import Level, Prediction
from sfumato.schedules.scalar import log

# (weight, mean, standard deviation) of the components; first under a condition m, which moves the mean, then without one
GAUSSIANS = ((1.0, 0.0, 1.0),), ((1.0, 0.0, math.sqrt(2)),)
MIXTURES = ((0.4, -0.5, 0.3), (0.6, 0.7, 0.2)), ((0.3, -1.2, 0.5), (0.7, 0.9, 0.4))


class Net:
    """An exact conditional network, element-wise, regular at both ends: data under the condition m and, where m is nan, without one.

    `data` as GAUSSIANS, of the specification's table. row: of its output; None: a pair. Counts its calls, and how many samples each had.
    """

    def __init__(self, row=None, data=GAUSSIANS):
        self.row, self.data, self.calls, self.sizes = row, data, 0, []

    def believes(self, x, level, m):
        """(x0, eps) under m, a number."""
        null = math.isnan(m)
        a, s = level.alpha, level.sigma
        parts = [(w, mean if null else m + mean, d) for w, mean, d in self.data[null]]
        apart = [(x - a * mean, a * a * d * d + s * s) for _, mean, d in parts]
        x0 = [mean + a * d * d / v * u for (_, mean, d), (u, v) in zip(parts, apart, strict=True)]
        eps = [s / v * u for u, v in apart]
        if len(parts) == 1:
            return x0[0], eps[0]
        weights = [math.log(w) - 0.5 * log(v) - u * u / (2 * v) for (w, _, _), (u, v) in zip(parts, apart, strict=True)]
        share = torch.softmax(torch.stack(weights), 0)
        return (share * torch.stack(x0)).sum(0), (share * torch.stack(eps)).sum(0)

    def __call__(self, x, level, condition):
        self.calls += 1
        self.sizes.append(len(x))
        at, m = level.like(x), condition["m"].view(-1, *[1] * (x.ndim - 1)).to(x)
        null, zero = m.isnan(), torch.where(m.isnan(), 0.0, m)
        cond = self.believes(x - at.alpha * zero, at, 0.0)  # moved by m
        x0, eps = (
            torch.where(null, u, v)
            for u, v in zip(self.believes(x, at, math.nan), (cond[0] + zero, cond[1]), strict=True)
        )
        if self.row is None:
            return Prediction.pair(x0, eps)
        p, q = self.row(at)
        return Prediction(x, level, p * x0 + q * eps, self.row)


def branches(net, n, m=0.0, device=None):
    """ "cond" under m, one number or n of them, and "ref" without a condition."""
    cond, null = (torch.as_tensor(v, dtype=torch.float64, device=device).expand(n).clone() for v in (m, math.nan))
    return {"cond": Branch(net, {"m": cond}), "ref": Branch(net, {"m": null})}


def guided(sampler, rule, levels, x, net=None, noise=None, *, m=0.0, written=False, steps=None, **more):
    """Walk x under a rule: (the end, the field). written: as written; steps: a list that gets every step; more: further branches."""
    field = Field({**branches(net or Net(), len(x), m, x.device), **more}, rule, len(x))
    with torch.no_grad():
        for step in trajectory(sampler, field, levels, x, noise, as_written=written):
            last = step.x
            if steps is not None:
                steps.append(step)
    return last, field


LEVEL = Level(0.5, 0.6, 0.8)


def says(row=None, level=LEVEL, **outs):
    """Branches that answer with given tensors, in a row or as x0 of a pair; and the x that they are asked at."""
    outs = {k: torch.as_tensor(v, dtype=torch.float64) for k, v in outs.items()}
    x = torch.linspace(-1, 2, outs["cond"].numel(), dtype=torch.float64).view(outs["cond"].shape)

    def network(out):
        def answer(x, level, c):
            if row is None:
                return Prediction.pair(out, (x - level.alpha * out) / level.sigma)
            return Prediction(x, level, out, row)

        return answer

    return {k: Branch(network(v)) for k, v in outs.items()}, x


def ask(rule, there, x, level=LEVEL):
    return Field(there, rule, len(x))(x, level)


def in_row(p, row, level=LEVEL):
    a, b = row(level)
    return a * p.x0 + b * p.eps


def data(z, g, m):
    """The predicted data of the mixture net at z = x / alpha, ratio g: from the definition, apart from our parts."""
    parts = [(w, mean + (0.0 if math.isnan(m) else m), d) for w, mean, d in MIXTURES[math.isnan(m)]]
    density = [
        w * torch.exp(-((z - mean) ** 2) / (2 * (d * d + g * g))) / math.sqrt(d * d + g * g) for w, mean, d in parts
    ]
    means = [(mean * g * g + z * d * d) / (d * d + g * g) for _, mean, d in parts]
    return sum(p * mean for p, mean in zip(density, means, strict=True)) / sum(density)


def grid(path, steps=9):
    """Levels of a path with finite ratios, uneven, then data."""
    ratios = [40 * (0.02 / 40) ** ((i / steps) ** 1.3) for i in range(steps + 1)]
    return [path.at_log_snr(-2 * math.log(g)) for g in ratios] + [path(0.0)._replace(sigma=0.0)]

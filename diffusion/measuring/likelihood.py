"""Bits per number of the data, by the variational bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...schedules import Grid, Level, LogSNRUniform, Schedule, Stream, Trailing, check_seeds, gaussian, uniform
from ...schedules.schedule import entries
from ..bound import end_term, step_term
from ..data import Source
from ..model import Model
from ..progress import progress_bar

__all__ = ["Likelihood", "bound_grid", "likelihood"]


@dataclass(frozen=True)
class Likelihood:
    """An upper bound on -log2 p of each sample, per number of it.

    Args:
        prior: the term of the noisiest level, (N,), bits per number.
        middle: the steps between, (N,).
        decoder: the step that ends at data, (N,).
        learned: whether the network's own variance was used.
    """

    prior: Tensor
    middle: Tensor
    decoder: Tensor
    learned: bool = False

    @property
    def bits(self) -> Tensor:
        """The whole bound, (N,)."""
        return self.prior + self.middle + self.decoder

    @property
    def mean(self) -> float:
        """The mean over the samples."""
        return float(self.bits.double().mean())

    @property
    def error(self) -> float:
        """The standard error of the mean, from the spread of the samples; nan for one sample."""
        return float(self.bits.double().std() / math.sqrt(len(self.bits))) if len(self.bits) > 1 else math.nan


@torch.no_grad()
def likelihood(
    model: Model, source: Source, index: Tensor, *,
    steps: int = 1000, grid: Grid | None = None, terms: int | None = None, bins: int | None = 256,
    fixed: Literal["small", "large"] = "large", seed: int = 0, batch: int = 256, progress: bool = False,
) -> Likelihood:  # fmt: skip
    """The variational bound of a model on data, one noise draw per term.

    The bound is that of the ancestral sampler (DDPM) on a grid, drawing with the learned variance where the network has one, else with
    a fixed one. More steps make it tighter where the network was trained. Noise is addressed by (seed, sample, step): the same samples
    give the same bits in any batch, up to the network's rounding.

    Args:
        model: the model; on classes it is told each sample's label.
        source: the data.
        index: int64 (N,), which samples.
        steps: of the bound, >= 2.
        grid: its levels; None: a table's own entries (trailing), or, on another path, uniform in log-SNR down to noise of a sixth of
            a bin. Levels that training hardly saw cost bits without end.
        terms: how many of the steps before the last are evaluated per sample, stratified at random, unbiased; None: all.
        bins: values that a number of the data can take, over [-1, 1]; None: continuous data, and differential bits.
        fixed: variance of a network that learns none: "large" (beta; right for smooth data) or "small" (the posterior's; for
            continuous data never tight, since the last steps span a fixed range of log-SNR however many there are). In the last
            step both are the small one of the step before, as in improved DDPM's code.
        seed: of the noise.
        batch: samples at a time, >= 1.
        progress: show a bar.

    Raises:
        ValueError: for values out of range.
        PairingError: when the network says nothing at a level of the bound.
        FloatingPointError: when the bound is not finite, naming samples.
    """
    if not isinstance(steps, int) or steps < 2:
        raise ValueError(f"steps is {steps!r}; allowed: a whole number >= 2")
    if fixed not in ("small", "large"):
        raise ValueError(f"fixed is {fixed!r}; allowed: 'small', 'large'")
    if terms is not None and not 1 <= terms <= steps - 1:
        raise ValueError(f"terms is {terms}; allowed: 1 to {steps - 1}, or null for all steps")
    if batch < 1:
        raise ValueError(f"batch is {batch}; allowed: >= 1")
    if bins is not None and bins < 2:
        raise ValueError(f"bins is {bins}; allowed: >= 2, or null for continuous data")
    if len(index) < 1:
        raise ValueError("index is empty; allowed: at least one sample")
    check_seeds([seed])
    schedule = model.denoiser.schedule
    levels = (bound_grid(schedule, bins) if grid is None else grid)(schedule, steps)
    model.denoiser.check(levels[:-1])
    found: list[Likelihood] = []
    training = model.denoiser.training
    model.denoiser.eval()
    try:
        with progress_bar(len(index), 0, "bound", progress) as bar:
            for at in index.split(batch):
                found.append(_batch(model, source, at, levels, terms, bins, fixed, seed))
                bad = at[~found[-1].bits.isfinite()].tolist()
                if bad:
                    raise FloatingPointError(
                        f"the bound is not finite for sample(s) {bad[:8]}: the weights hold nan, or the data do"
                    )
                bar.update(len(at))
    finally:
        model.denoiser.train(training)
    parts = (torch.cat([getattr(f, name) for f in found]) for name in ("prior", "middle", "decoder"))
    return Likelihood(*parts, learned=found[0].learned)


def bound_grid(schedule: Schedule, bins: int | None) -> Grid:
    """The grid that a bound is stated for unless told otherwise; see `likelihood`.

    Args:
        schedule: the model's.
        bins: of the data, or None.
    """
    if entries(schedule) is not None:
        return Trailing()
    high = 2.0 * math.log(3.0 * (bins - 1)) if bins is not None else 12.0
    return LogSNRUniform(high=min(high, float(schedule(0.0).log_snr)))


def _batch(
    model: Model,
    source: Source,
    index: Tensor,
    levels: list[Level],
    terms: int | None,
    bins: int | None,
    fixed: str,
    seed: int,
) -> Likelihood:
    device, steps = model.device, len(levels) - 1
    given = source.batch(index)
    x0 = given.x.to(device)
    labels = given.labels.tolist() if model.num_classes and given.labels is not None else None
    condition = model.conditions(labels, len(x0))["cond"]
    columns = [
        torch.tensor([float(v) for v in c], dtype=torch.float64, device=device) for c in zip(*levels, strict=True)
    ]
    seeds = torch.full_like(index, seed).to(device)

    def level(place: Tensor) -> Level:
        return Level(*(c[place] for c in columns))

    def term(place: Tensor) -> Tensor:
        """The term of each sample at its own step, (B,)."""
        place = place.to(device)
        before, now, nxt = level((place - 1).clamp_min(0)), level(place), level(place + 1)
        at, eps = now.like(x0), gaussian(seeds, index.to(device), place, 0, x0.shape[1:], stream=Stream.BOUND)
        p = model.denoiser(at.alpha * x0 + at.sigma * eps, now, condition)
        variance = p.variance
        if variance is None and fixed == "large":
            ones = torch.ones_like(x0)
            variance = torch.where((place == steps - 1).view(-1, *[1] * (x0.ndim - 1)), -ones, ones)
        learned.append(p.variance is not None)
        return step_term(x0, p.x0, variance, before, now, nxt, bins).double()

    learned: list[bool] = []
    middle = torch.zeros(len(x0), dtype=torch.float64, device=device)
    if terms is None:
        for i in range(steps - 1):
            middle += term(torch.full_like(index, i))
    else:
        u = uniform(seeds, index, 0, terms, Stream.BOUND_STEP).cpu()
        for j in range(terms):
            place = ((j + u[:, j]) / terms * (steps - 1)).long().clamp(max=steps - 2)
            middle += term(place) * ((steps - 1) / terms)
    decoder = term(torch.full_like(index, steps - 1))
    return Likelihood(end_term(x0, levels[0]).double().cpu(), middle.cpu(), decoder.cpu(), all(learned))

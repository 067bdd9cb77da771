"""Objectives of networks that learn the variance of a step, too: twice the channels, the second half says how much noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..schedules.density import Density
from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.schedule import Schedule, entries
from ..schedules.weighting import Weighting
from .bound import as_pair, step_term
from .denoiser import Answer, Denoiser
from .objective import Losses, Noised, regression

__all__ = ["Hybrid", "VariationalBound", "check_steps"]


def _check(name: str, steps: int | None, bins: int | None) -> None:
    if steps is not None and (not isinstance(steps, int) or isinstance(steps, bool) or steps < 2):
        raise ValueError(f"{name}.steps is {steps!r}; allowed: a whole number >= 2, or null")
    if bins is not None and (not isinstance(bins, int) or bins < 2):
        raise ValueError(f"{name}.bins is {bins!r}; allowed: a whole number >= 2 such as 256, or null")


def check_steps(objective: object, density: Density, schedule: Schedule) -> None:
    """Refuse a density whose levels are not the steps of the bound that an objective sums.

    Args:
        objective: any; only Hybrid and VariationalBound have steps.
        density, schedule: of training.

    Raises:
        ValueError: naming the keys and the fix.
    """
    if not isinstance(objective, Hybrid | VariationalBound):
        return
    name, count, table = type(objective).__name__, _count(objective.steps, schedule), entries(schedule)
    if table is not None and table != count:
        raise ValueError(
            f"objective.steps is {count}, the schedule's table has {table} entries; set objective.steps: null, or {table}"
        )
    t = density(torch.linspace(0.003, 0.997, 97, dtype=torch.float64), schedule).level.t
    place = torch.as_tensor(t, dtype=torch.float64) * count
    if bool(((place - place.round()).abs() > 1e-6).any()):
        raise ValueError(
            f"objective {name} sums over {count} steps, but density {type(density).__name__} draws levels between them; set density: "
            f"UniformEntries, or LossSecondMoment, with density.steps: {'null' if table else count}"
        )


def _count(steps: int | None, schedule: Schedule) -> int:
    """The steps of the bound: as said, as the table has, or 1000."""
    return steps or entries(schedule) or 1000


def _steps(schedule: Schedule, level: Level, count: int) -> tuple[Level, Level, Level]:
    """The levels a step of 1 / count before and after a level: towards noise, itself, towards data."""
    place = (torch.as_tensor(level.t, dtype=torch.float64) * count).round().clamp(1, count)
    nxt, last = schedule((place - 1) / count), place == 1
    # the last step leads to data, also on a path whose clean end still has noise
    alpha, sigma = as_pair(nxt)
    clean = torch.full_like(alpha, float(schedule.at_log_snr(math.inf).alpha))
    data = Level(nxt.t, torch.where(last, clean, alpha), torch.where(last, torch.zeros_like(sigma), sigma))
    return schedule((place + 1).clamp(max=count) / count), level, data


def _bits(denoiser: Denoiser, answer: Answer, seen: Noised, count: int, bins: int | None, detach: bool) -> Tensor:
    """The bound's term of each sample, (B,)."""
    out = answer.out.detach() if detach else answer.out
    believed = Prediction(seen.x, seen.level, out, denoiser.row).x0
    before, now, nxt = _steps(denoiser.schedule, seen.level, count)
    return step_term(seen.x0, believed, answer.variance, before, now, nxt, bins)


def _answer(name: str, denoiser: Denoiser, seen: Noised) -> Answer:
    """The network's answer with a variance.

    Raises:
        ValueError: when it has none, or for element-wise levels.
    """
    if isinstance(seen.level.alpha, Tensor) and seen.level.alpha.ndim > 1:
        raise ValueError(f"{name} needs one level per sample; use objective: Regression for element-wise levels")
    answer = denoiser.answer(seen.x, seen.level, seen.condition)
    if answer.variance is None:
        channels = seen.x0.shape[1]
        raise ValueError(
            f"objective {name} learns a variance, but the backbone has no channels for it; set backbone.out_channels: {2 * channels}, "
            f"twice the data's {channels}"
        )
    return answer


@dataclass(frozen=True)
class Hybrid:
    """The weighted squared error plus scale * steps times a term of the variational bound in bits, which trains the variance only:
    the mean is detached in it.

    log Sigma = f log beta + (1 - f) log beta~ with f = (o + 1) / 2 and o the network's second answer.

    Args:
        scale: of the bound, >= 0; the paper's 0.001.
        steps: T, the steps of which the bound is a sum, >= 2; training draws their levels. null: the entries of the schedule's
            table, or 1000.
        bins: values that a number of the data can take, over [-1, 1]: 256 for 8-bit images; null: continuous data.

    Raises:
        ValueError: for other values; when called, for a network without channels for the variance.

    Source: Nichol & Dhariwal 2021 (2102.09672), eq. 15-16.
    """

    scale: float = 0.001
    steps: int | None = None
    bins: int | None = 256

    def __post_init__(self) -> None:
        _check("Hybrid", self.steps, self.bins)
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"Hybrid.scale is {self.scale}; allowed: >= 0 (the paper's is 0.001)")

    def head(self) -> nn.Module | None:
        return None

    def __call__(self, denoiser: Denoiser, head: nn.Module | None, weighting: Weighting, seen: Noised) -> Losses:
        seen = seen.per_sample()
        answer = _answer("Hybrid", denoiser, seen)
        simple = regression(answer, denoiser, weighting, seen)
        count = _count(self.steps, denoiser.schedule)
        bits = _bits(denoiser, answer, seen, count, self.bins, detach=True)
        return Losses(simple.loss + self.scale * count * bits.float(), simple.error)


@dataclass(frozen=True)
class VariationalBound:
    """The variational bound itself, steps times one of its terms, in bits per number; mean and variance are trained by it. The
    weighting is not used.

    Its terms differ by orders of magnitude: density LossSecondMoment makes it trainable.

    Args:
        steps: T, the steps of which the bound is a sum, >= 2; training draws their levels. null: the entries of the schedule's
            table, or 1000.
        bins: values that a number of the data can take, over [-1, 1]: 256 for 8-bit images; null: continuous data.

    Raises:
        ValueError: for other values; when called, for a network without channels for the variance.

    Source: Nichol & Dhariwal 2021 (2102.09672), section 3.3.
    """

    steps: int | None = None
    bins: int | None = 256

    def __post_init__(self) -> None:
        _check("VariationalBound", self.steps, self.bins)

    def head(self) -> nn.Module | None:
        return None

    def __call__(self, denoiser: Denoiser, head: nn.Module | None, weighting: Weighting, seen: Noised) -> Losses:
        seen = seen.per_sample()
        answer = _answer("VariationalBound", denoiser, seen)
        count = _count(self.steps, denoiser.schedule)
        bits = _bits(denoiser, answer, seen, count, self.bins, detach=False)
        return Losses(count * bits.float(), regression(answer, denoiser, weighting, seen).error.detach())

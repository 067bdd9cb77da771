"""Training objectives: what is minimised. A weighted squared error of the network's output is the plain one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..guidance.tree import Tree
from ..schedules.level import Level
from ..schedules.rows import target
from ..schedules.weighting import Weighting, output_weight
from .denoiser import Answer, Denoiser

__all__ = ["Losses", "Noised", "Objective", "Regression", "regression"]


class Losses(NamedTuple):
    """Per sample, float32 (B,): loss is what is minimised, error the unweighted mean squared error of the output."""

    loss: Tensor
    error: Tensor


class Noised(NamedTuple):
    """What training shows a network: x = alpha x0 + sigma eps.

    x0, eps: (B, ...), data and standard normals. level: tensors (B,) or element-wise (B, 1, H, W), preferably float64; or
    numbers. condition: see Denoiser.answer.
    """

    x0: Tensor
    eps: Tensor
    level: Level
    condition: Tree = None

    @property
    def x(self) -> Tensor:
        """The noisy data, (B, ...)."""
        at = self.level.like(self.x0)
        return at.alpha * self.x0 + at.sigma * self.eps

    def per_sample(self) -> Noised:
        """The same with a level of tensors."""
        if not self.level.is_scalar:
            return self
        count, device = len(self.x0), self.x0.device
        level = (torch.full((count,), float(v), dtype=torch.float64, device=device) for v in self.level)
        return self._replace(level=Level(*level))


@runtime_checkable
class Objective(Protocol):
    """What training minimises."""

    def head(self) -> nn.Module | None:
        """What is trained beside the backbone and saved with it, and not used in sampling; None: nothing."""
        ...

    def __call__(self, denoiser: Denoiser, head: nn.Module | None, weighting: Weighting, seen: Noised) -> Losses:
        """The losses of a batch.

        Args:
            denoiser: the model.
            head: what `head()` made, trained so far.
            weighting: W on the error of x0.
            seen: what the network is shown.
        """
        ...


def regression(answer: Answer, denoiser: Denoiser, weighting: Weighting, seen: Noised) -> Losses:
    """The loss w(level) * mean (out - (a x0 + b eps))^2 of each sample, for an answer of the network."""
    at = seen.level.like(seen.x0)
    squares = (answer.out - target(denoiser.row, at, seen.x0, seen.eps)).square()
    # the weight is read from the exact level, before it is rounded to the data's precision
    weight = output_weight(weighting, denoiser.row, seen.level).to(squares)
    error = squares.flatten(1).mean(1).float()
    if weight.ndim > 1:  # element-wise levels: weighted before the mean
        return Losses((weight * squares).flatten(1).mean(1).float(), error)
    return Losses(weight.to(error) * error, error)


@dataclass(frozen=True)
class Regression:
    """The weighted squared error of the output, mean over the sample. Source: Ho et al. 2020 (2006.11239), eq. 14."""

    def head(self) -> nn.Module | None:
        return None

    def __call__(self, denoiser: Denoiser, head: nn.Module | None, weighting: Weighting, seen: Noised) -> Losses:
        seen = seen.per_sample()
        answer = denoiser.answer(seen.x, seen.level, seen.condition)
        if answer.variance is not None:
            raise ValueError(
                "the backbone has twice the channels of the data, so it learns a variance, which objective Regression leaves "
                "untrained; set objective: Hybrid, or backbone.out_channels: null"
            )
        return regression(answer, denoiser, weighting, seen)

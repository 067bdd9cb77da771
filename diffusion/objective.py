"""The training objective: a weighted squared error of the network's output."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..guidance.tree import Tree
from ..schedules.level import Level
from ..schedules.rows import target
from ..schedules.weightings import Weighting, output_weight
from .denoiser import Denoiser

__all__ = ["Losses", "losses"]


class Losses(NamedTuple):
    """Per sample, float32 (B,): loss is what is minimised, error the unweighted mean squared error of the output."""

    loss: Tensor
    error: Tensor


def losses(
    denoiser: Denoiser, weighting: Weighting, x0: Tensor, eps: Tensor, level: Level,
    condition: Tree = None, factor: Tensor | float = 1.0,
) -> Losses:  # fmt: skip
    """The loss of each sample: factor * w(level) * mean (out - (a x0 + b eps))^2.

    Args:
        denoiser: the model; its row says what the target is.
        weighting: W on the error of x0.
        x0, eps: (B, ...), data and standard normals.
        level: tensors (B,) or element-wise (B, 1, H, W), preferably float64; or numbers.
        condition: see Denoiser.output.
        factor: the density's, per sample.
    """
    if level.is_scalar:
        level = Level(*(torch.full((len(x0),), float(v), dtype=torch.float64, device=x0.device) for v in level))
    at = level.like(x0)
    out = denoiser.output(at.alpha * x0 + at.sigma * eps, level, condition)
    squares = (out - target(denoiser.row, at, x0, eps)).square()
    # the clock and the weight are read from the exact level, before it is rounded to the data's precision
    weight = output_weight(weighting, denoiser.row, level).to(squares)
    error = squares.flatten(1).mean(1).float()
    if weight.ndim > 1:  # element-wise levels: weighted before the mean
        loss = (weight * squares).flatten(1).mean(1).float()
    else:
        loss = weight.to(error) * error
    return Losses(loss * (factor.to(error) if isinstance(factor, Tensor) else factor), error)

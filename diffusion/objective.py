"""The training objective: a weighted squared error of the network's output."""

from __future__ import annotations

from typing import NamedTuple

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
        level: tensors (B,), preferably float64: the clock and the weight are read from it before it is rounded.
        condition: see Denoiser.output.
        factor: the density's, per sample.
    """
    at = level.like(x0)
    x = at.alpha * x0 + at.sigma * eps
    out = denoiser.output(x, level, condition)
    # the target in x0's dtype from the exact level: rows may divide by what is small
    wanted = target(denoiser.row, at, x0, eps)
    error = (out - wanted).square().flatten(1).mean(1).float()
    weight = output_weight(weighting, denoiser.row, level).to(error)
    return Losses(
        factor * weight * error if not isinstance(factor, Tensor) else factor.to(error) * weight * error, error
    )

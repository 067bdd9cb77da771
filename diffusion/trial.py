"""A forward pass of a recipe's network on a batch of nothing, to see what it takes."""

from __future__ import annotations

import torch
from torch import Tensor

from .objective import Noised
from .recipe import Recipe
from .training_text import empty_condition

__all__ = ["trial_loss"]


def trial_loss(recipe: Recipe, count: int, device: torch.device) -> Tensor:
    """The mean loss of samples that stand for the data, in the middle of the density; no generator is drawn from but the network's own.

    Args:
        recipe: what is trained; its backbone is on the device.
        count: samples, >= 1.
        device: where.
    """
    denoiser, head = recipe.denoiser(), recipe.objective.head()
    drawn = recipe.density(torch.full((count,), 0.5, dtype=torch.float64, device=device), recipe.schedule)
    size = count * torch.Size(recipe.data.shape).numel()
    # numbers of the size of data: zeros may take other ways through the arithmetic
    x = torch.arange(size, device=device, dtype=torch.float64).sin().view(count, *recipe.data.shape)
    x = x.to(next(recipe.backbone.parameters()).dtype)
    condition = empty_condition(recipe, count, device)
    head = None if head is None else head.to(device)
    return recipe.objective(denoiser, head, recipe.weighting, Noised(x, x, drawn.level, condition)).loss.mean()

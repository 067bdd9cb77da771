"""The norm of gradients, and gradients no longer than a limit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

__all__ = ["clip"]


@torch.no_grad()
def clip(parameters: Sequence[nn.Parameter], limit: float | None) -> Tensor:
    """Clip the gradients together to a norm, to the bit as `torch.nn.utils.clip_grad_norm_` does.

    On the host, where nothing waits to be read, gradients that are short enough are left alone rather than multiplied by 1.

    Args:
        parameters: whose gradients, changed in place; some may have none.
        limit: largest norm, > 0; None: they are not clipped.

    Returns:
        What the norm was, a scalar.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = get_total_norm(gradients)
    if limit is None:
        return norm
    if norm.device.type == "cpu":
        share = limit / (norm + 1e-6)
        if gradients and not bool(share >= 1.0):  # nan is told, too
            torch._foreach_mul_(gradients, share)  # pyright: ignore[reportPrivateImportUsage]
    else:
        clip_grads_with_norm_(parameters, limit, norm)
    return norm

"""Time and class as the networks of Song and of Karras are told them, and what is no such thing refused."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["check_time", "one_hot"]


def check_time(time: Tensor, batch: int) -> None:
    """Refuse what is not one float32 time per sample.

    Raises:
        ValueError: saying so.
    """
    if time.shape != (batch,) or time.dtype != torch.float32:
        raise ValueError(
            f"time is {time.dtype} of shape {tuple(time.shape)}; allowed: float32 of shape ({batch},), one number per image (a single "
            "time t: torch.full((len(x),), t))"
        )


def one_hot(labels: Tensor | None, num_classes: int, batch: int, like: Tensor) -> Tensor:
    """1 in the place of each sample's class; the null class, number num_classes, is no 1 at all, so it has no parameter of its own.

    Args:
        labels: int64 (B,) in 0..num_classes; None: the null class for all.
        num_classes: >= 0.
        batch: B.
        like: has the dtype and device of the result.

    Returns:
        (B, num_classes).

    Raises:
        ValueError: for labels of another shape or dtype, or of a network without classes.
    """
    if labels is None:
        return like.new_zeros(batch, num_classes)
    if num_classes == 0:
        raise ValueError("labels were given, but num_classes is 0; pass labels=None or build with num_classes > 0")
    if labels.shape != (batch,) or labels.dtype != torch.int64:
        raise ValueError(
            f"labels is {labels.dtype} of shape {tuple(labels.shape)}; allowed: torch.int64 of shape ({batch},), a class in "
            f"0..{num_classes - 1} per image; {num_classes} is the null class, and labels=None means null for all"
        )
    return F.one_hot(labels, num_classes + 1)[:, :num_classes].to(like)

"""A norm of queries and keys in each attention head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HeadNorm", "head_norm"]


class HeadNorm(nn.RMSNorm):
    """RMS norm with a learned scale, in the dtype of its input: under autocast in one kernel, which computes in float32.

    Source: Henry et al. 2020 (2010.04245); Zhang & Sennrich 2019 (1910.07467).
    """

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.rms_norm(x, tuple(self.normalized_shape), self.weight.to(x.dtype), self.eps)


def head_norm(width: int, on: bool) -> nn.Module:
    """A HeadNorm of heads `width` wide, or nothing."""
    return HeadNorm(width, eps=1e-6) if on else nn.Identity()

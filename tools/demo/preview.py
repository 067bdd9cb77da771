"""What a model believes, as pictures, while it samples."""

from __future__ import annotations

from torch import Tensor

from ...diffusion import Model

__all__ = ["preview"]


def preview(model: Model, x0: Tensor) -> Tensor:
    """Pictures (B, 1 or 3, H, W) in [-1, 1] of a predicted x0.

    Args:
        model: that is sampled.
        x0: (B, C, H, W), in the units of the data.
    """
    return x0.float().clamp(-1, 1).cpu()

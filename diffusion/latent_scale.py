"""How the latents of a VAE of diffusers are shifted and scaled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["latent_scale"]


def latent_scale(config: Mapping[str, Any], buffers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Shift and scaling of a VAE's latents, (c,) or (1,), as diffusers' pipelines apply them: (latents - shift) * scaling.

    Args:
        config: of the VAE.
        buffers: its buffers by name, where some classes keep them.
    """

    def number(key: str) -> Tensor | None:
        value = config.get(key)
        value = buffers.get(key) if value is None else value
        return None if value is None else torch.as_tensor(value, dtype=torch.float32).flatten().cpu()

    means = [number("latents_mean"), number("shift_factor"), torch.zeros(1)]
    scaling, std = number("scaling_factor"), number("latents_std")
    one = torch.ones(1)
    return next(m for m in means if m is not None), (one if scaling is None else scaling) / (
        one if std is None else std
    )

"""A network of diffusers as what samplers and filters ask."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from ..schedules.rows import check_pairing
from ..schedules.scalar import sqrt
from .as_diffusers import as_diffusers
from .ddim import DDIM
from .network_time import network_time
from .state import Denoise

__all__ = ["network_denoise"]


def network_denoise(
    network: Callable[[Tensor, Tensor], Tensor], like: object, dtype: torch.dtype | None = None
) -> Denoise:
    """A network of diffusers as a plain callable (x, level) -> Prediction, at any level of its path, between its timesteps too.

    Of a UNet2DModel: `network_denoise(lambda x, t: unet(x, t).sample, pipe.scheduler)`. Of a UNet2DConditionModel, with the embeddings
    of every picture's prompt, one after the other, and without guidance:
    `network_denoise(lambda x, t: unet(x, t, encoder_hidden_states=embeds).sample, pipe.scheduler)`, where `embeds` is (B, tokens, width),
    such as `pipe.encode_prompt(prompts, device, num_images_per_prompt, False)[0]`.

    Args:
        network: (x, t) -> its raw output, of x's shape or with twice the channels (the second half a learned variance); x (B, ...), t (B,).
        like: the pipeline's scheduler, of ours or of diffusers, its config, or its folder: path, prediction type and time are read from it.
        dtype: what the network is fed; None: as x is. The answer is read in x's dtype.

    Raises:
        ValueError: for a scheduler whose path is not known, and an answer of another shape; while it runs.
        PairingError: for a level at which the prediction type says nothing.
    """
    from .diffusers_scheduler import SfumatoScheduler

    own = like if isinstance(like, SfumatoScheduler) else as_diffusers(DDIM(), like=like)
    row, time = own.row, network_time(own.schedule, own.row, own.clock)

    def denoise(x: Tensor, level: Level) -> Prediction:
        check_pairing(row, level)
        fed = x
        if row.input_std is not None:
            fed = x / float(sqrt((row.input_std * level.alpha) ** 2 + level.sigma**2))
        told = time(level)
        kind = torch.int64 if told.is_integer() else torch.float32
        # filled on the device: a tensor that is made on the host and sent would wait for it
        out = network(fed.to(dtype or x.dtype), torch.full((len(x),), told, dtype=kind, device=x.device)).to(x.dtype)
        variance = None
        if out.ndim > 1 and out.shape == (len(x), 2 * x.shape[1], *x.shape[2:]):
            out, variance = out.chunk(2, dim=1)
        if out.shape != x.shape:
            raise ValueError(
                f"the network answered with shape {tuple(out.shape)} to {tuple(x.shape)}; allowed: the same, or twice the channels (a "
                "learned variance); with guidance off there is one answer per picture"
            )
        return Prediction(x, level, out, row, variance)

    return denoise

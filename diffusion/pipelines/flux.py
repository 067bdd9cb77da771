"""FluxTransformer2DModel of diffusers as a backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .adapting import answered, fed, whole

__all__ = ["FluxTransformer"]


class FluxTransformer(nn.Module):
    """A FluxTransformer2DModel: latents x (B, C, H, W) as patches of 2 x 2, time (B,) in thousandths, the texts' states, pooled.

    Args:
        network: of diffusers; it is used, not copied.
        guidance: the number that a network distilled from guidance (FLUX.1 dev) is told; no rule of guidance is needed for it. Others
            (schnell) take none, and this is not read.

    Source: black-forest-labs/flux; the packing is that of diffusers' FluxPipeline.
    """

    num_classes, size, multiple = 0, None, 2

    def __init__(self, network: nn.Module, guidance: float = 3.5) -> None:
        super().__init__()
        config: Any = network.config
        self.network, self.channels, self.guidance = network, int(config.in_channels) // 4, float(guidance)
        self.distilled = bool(config.guidance_embeds)

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, W), H and W even.
            time: (B,), what its clock says: 1000 at noise.
            encoder_hidden_states: (B, tokens, width), of T5.
            pooled_projections: (B, width), of CLIP.
        """
        net, (batch, channels, height, width) = self.network, x.shape
        rows, columns = height // 2, width // 2
        packed = x.view(batch, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
        packed = packed.reshape(batch, rows * columns, 4 * channels)
        ids = torch.zeros(rows, columns, 3, device=x.device)
        ids[..., 1] += torch.arange(rows, device=x.device)[:, None]
        ids[..., 2] += torch.arange(columns, device=x.device)[None]
        out = net(
            hidden_states=fed(net, packed), timestep=time / 1000, guidance=whole(x, self.guidance) if self.distilled else None,
            encoder_hidden_states=fed(net, encoder_hidden_states), pooled_projections=fed(net, pooled_projections),
            img_ids=ids.view(rows * columns, 3), txt_ids=torch.zeros(encoder_hidden_states.shape[1], 3, device=x.device),
        )  # fmt: skip
        tokens = answered(out, x).view(batch, rows, columns, channels, 2, 2)
        return tokens.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)

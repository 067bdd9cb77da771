"""SD3Transformer2DModel of diffusers as a backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .adapting import answered, fed, side

__all__ = ["SD3Transformer"]


class SD3Transformer(nn.Module):
    """An SD3Transformer2DModel: latents x (B, C, H, W), time (B,), the texts' states and their pooled form.

    Args:
        network: of diffusers; it is used, not copied.

    Source: Esser et al. 2024 (2403.03206).
    """

    num_classes = 0

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        config: Any = network.config
        self.network, self.channels, self.size = network, int(config.in_channels), side(config.sample_size)
        self.multiple = int(config.patch_size)
        # positions are cut from the middle of a table of this side
        self.most = int(config.pos_embed_max_size) * self.multiple

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, W).
            time: (B,), what its clock says.
            encoder_hidden_states: (B, tokens, width), of the text encoders.
            pooled_projections: (B, width), of the CLIP encoders.
        """
        net = self.network
        out = net(
            hidden_states=fed(net, x), timestep=time, encoder_hidden_states=fed(net, encoder_hidden_states),
            pooled_projections=fed(net, pooled_projections),
        )  # fmt: skip
        return answered(out, x)

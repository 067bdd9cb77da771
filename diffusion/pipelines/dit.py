"""DiTTransformer2DModel of diffusers as a backbone."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .adapting import answered, fed, refuse_config, side

__all__ = ["DiTTransformer"]


class DiTTransformer(nn.Module):
    """A DiTTransformer2DModel: square latents x (B, C, H, H), time (B,), int64 labels (B,), num_classes being the null class.

    Its output has twice the channels where it learned the variance.

    Args:
        network: of diffusers; it is used, not copied.

    Raises:
        ValueError: for a norm_type without classes.

    Source: Peebles & Xie 2022 (2212.09748).
    """

    null_class = True  # diffusers builds it with a dropout of labels, so with one embedding more

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        refuse_config(network, "norm_type", ("ada_norm_zero",), "it has no classes")
        config: Any = network.config
        self.network, self.num_classes = network, int(config.num_embeds_ada_norm)
        self.channels, self.size, self.multiple = (
            int(config.in_channels),
            side(config.sample_size),
            int(config.patch_size),
        )

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, H).
            time: (B,), what its clock says.
            labels: int64 (B,), 0 to num_classes.
        """
        return answered(self.network(fed(self.network, x), timestep=time, class_labels=labels), x)

"""DiTTransformer2DModel of diffusers as a backbone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .adapting import answered, fed, refuse_config, side

__all__ = ["DiTTransformer"]


class DiTTransformer(nn.Module):
    """A DiTTransformer2DModel: square latents x (B, C, H, H), time (B,), int64 labels (B,) or None, num_classes being the null class.

    Its output has twice the channels where it learned the variance.

    Args:
        network: of diffusers; it is used, not copied.
        classes: how many of those that it embeds are classes, the rest being room before the null class; 0: it was trained without any;
            None: all of them. Nothing in its config says which.

    Raises:
        ValueError: for a norm_type without classes, and for more classes than it embeds.

    Source: Peebles & Xie 2022 (2212.09748).
    """

    null_class = True  # diffusers builds it with a dropout of labels, so with one embedding more

    def __init__(self, network: nn.Module, classes: int | None = None) -> None:
        super().__init__()
        refuse_config(network, "norm_type", ("ada_norm_zero",), "it has no classes")
        config: Any = network.config
        self.null_label = int(config.num_embeds_ada_norm)
        if classes is not None and not 0 <= classes <= self.null_label:
            raise ValueError(
                f"classes is {classes}, and the network embeds {self.null_label}; allowed: 0 to {self.null_label}"
            )
        self.network, self.num_classes = network, self.null_label if classes is None else classes
        self.channels, self.size, self.multiple = (
            int(config.in_channels),
            side(config.sample_size),
            int(config.patch_size),
        )

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, H).
            time: (B,), what its clock says.
            labels: int64 (B,), 0 to num_classes; None: the null class.
        """
        null = torch.full((len(x),), self.null_label, dtype=torch.int64, device=x.device)
        labels = null if labels is None else torch.where(labels == self.num_classes, null, labels)
        return answered(self.network(fed(self.network, x), timestep=time, class_labels=labels), x)

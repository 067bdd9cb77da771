"""UNet2DConditionModel of diffusers as a backbone: Stable Diffusion 1 and 2, and XL."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .adapting import answered, fed, refuse_config, side

__all__ = ["UNet2DCondition", "UNet2DConditionXL"]


class UNet2DCondition(nn.Module):
    """A UNet2DConditionModel: latents x (B, C, H, W), time (B,), the text's states, and int64 labels (B,) where it embeds classes.

    Args:
        network: of diffusers; it is used, not copied.

    Raises:
        ValueError: for a network that takes more than this (the refiner, LCM's guidance, images).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        _check(network)
        refuse_config(network, "addition_embed_type", (None,), "it takes what no part here makes")
        config: Any = network.config
        self.network, self.num_classes = network, int(config.num_class_embeds or 0)
        self.null_class = self.num_classes == 0  # the empty text; of classes none is known
        self.channels, self.size = int(config.in_channels), side(config.sample_size)
        self.multiple = 2 ** (len(config.down_block_types) - 1)

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, labels: Tensor | None = None) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, W).
            time: (B,), what its clock says.
            encoder_hidden_states: (B, tokens, width), of the text encoder.
            labels: int64 (B,).
        """
        given = {} if labels is None else {"class_labels": labels}
        net = self.network
        return answered(net(fed(net, x), time, fed(net, encoder_hidden_states), **given), x)


class UNet2DConditionXL(nn.Module):
    """A UNet2DConditionModel that also takes a pooled text and six numbers on the picture's size, as SDXL's.

    Args:
        network: of diffusers; it is used, not copied.

    Raises:
        ValueError: for a network that takes other things.
    """

    num_classes = 0

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        _check(network)
        refuse_config(network, "addition_embed_type", ("text_time",), "this adapter serves SDXL")
        refuse_config(network, "num_class_embeds", (None,), "SDXL has no classes")
        config: Any = network.config
        self.network, self.channels, self.size = network, int(config.in_channels), side(config.sample_size)
        self.multiple = 2 ** (len(config.down_block_types) - 1)

    def forward(
        self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor, time_ids: Tensor
    ) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, W).
            time: (B,), what its clock says.
            encoder_hidden_states: (B, tokens, width), of both text encoders.
            text_embeds: (B, width), the pooled text of the second.
            time_ids: (B, 6): original height and width, top and left of the crop, height and width asked for, pixels.
        """
        net = self.network
        added = {"text_embeds": fed(net, text_embeds), "time_ids": fed(net, time_ids)}
        return answered(net(fed(net, x), time, fed(net, encoder_hidden_states), added_cond_kwargs=added), x)


def _check(network: nn.Module) -> None:
    refuse_config(network, "class_embed_type", (None,), "its labels are no classes")
    refuse_config(network, "encoder_hid_dim_type", (None, "text_proj"), "it takes pictures as its condition")
    refuse_config(
        network,
        "time_cond_proj_dim",
        (None,),
        "it was distilled to take the guidance as a number (LCM), and answers with a point rather than a mean",
    )

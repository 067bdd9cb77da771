"""UNet2DModel of diffusers as a backbone: pictures, or latents without a text."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .adapting import answered, fed, refuse_config, side

__all__ = ["UNet2D"]


class UNet2D(nn.Module):
    """A UNet2DModel: x (B, C, H, W), time (B,), and int64 labels (B,) where it embeds classes.

    Args:
        network: of diffusers; it is used, not copied.
        classes: how many of its embedded classes are classes, where one more is the null class; None: all of them, and there is no null
            class. Nothing in its config says which.

    Raises:
        ValueError: for a class embedding of another kind, and for classes that it does not embed.
    """

    def __init__(self, network: nn.Module, classes: int | None = None) -> None:
        super().__init__()
        config: Any = network.config
        refuse_config(
            network, "time_embedding_type", ("positional", "fourier"), "it knows the entries of its table alone"
        )
        refuse_config(
            network,
            "class_embed_type",
            (None,),
            "its labels are numbers rather than classes"
            if config.num_class_embeds is None
            else "it embeds more than a class",
        )
        embedded = int(config.num_class_embeds or 0)
        if classes is not None and classes not in (embedded, embedded - 1):
            raise ValueError(
                f"classes is {classes}, and the network embeds {embedded}; allowed: {embedded}, or {max(embedded - 1, 0)} and a "
                "null class"
            )
        self.network = network
        self.num_classes = embedded if classes is None else classes
        self.null_class = embedded > self.num_classes
        self.channels, self.size = int(config.in_channels), side(config.sample_size)
        self.multiple = 2 ** (len(config.down_block_types) - 1)

    def forward(self, x: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """The network's output, in x's dtype.

        Args:
            x: (B, C, H, W).
            time: (B,), what its clock says.
            labels: int64 (B,).
        """
        given = {} if labels is None else {"class_labels": labels}
        return answered(self.network(fed(self.network, x), time, **given), x)

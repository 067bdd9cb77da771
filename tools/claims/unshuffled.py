"""A UNet on blocks of pixels: a sixteenth of the positions, so that it is cheap on a CPU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion import UNet

__all__ = ["UnshuffledUNet"]


class UnshuffledUNet(nn.Module):
    """The UNet on pictures whose blocks of pixels have become channels, without labels.

    Args:
        channels: of the picture.
        size: height and width, pixels.
        block: side of a block, pixels, a divisor of size.
        width, multipliers, blocks, attention: of the UNet, which sees size / block pixels.

    Raises:
        ValueError: where block does not divide size.
    """

    def __init__(
        self, channels: int = 1, size: int = 32, block: int = 4, width: int = 48, multipliers: tuple[int, ...] | list[int] = (1, 2),
        blocks: int = 1, attention: tuple[int, ...] | list[int] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        if block < 1 or size % block:
            raise ValueError(f"UnshuffledUNet(size={size}, block={block}); allowed: a block that divides the size")
        self.config: dict[str, object] = {
            "channels": channels, "size": size, "block": block, "width": width, "multipliers": list(multipliers), "blocks": blocks,
            "attention": list(attention),
        }  # fmt: skip
        self.channels, self.size, self.block, self.num_classes = channels, size, block, 0
        self.unet = UNet(channels * block**2, size // block, 0, width, multipliers, blocks, attention)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """The output, like x (B, channels, H, W), for times float32 (B,)."""
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(x, self.block), time), self.block)

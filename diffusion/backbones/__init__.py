"""Networks: from noisy images, times and labels to whatever the prediction type asks for."""

from .dit import DiT
from .unet import UNet

__all__ = ["DiT", "UNet"]

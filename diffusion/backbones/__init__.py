"""Networks: from noisy images, times and labels to whatever the prediction type asks for."""

from .adm import ADM
from .ddpmpp import DDPMPP
from .dit import DiT
from .dit_sizes import sized
from .features import Features, features
from .unet import UNet

__all__ = [
    "ADM",
    "DDPMPP",
    "DiT",
    "Features",
    "UNet",
    "features",
    "sized",
]

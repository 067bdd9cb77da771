"""Networks: from noisy images, times and labels to whatever the prediction type asks for."""

from .adm import ADM
from .ddpmpp import DDPMPP
from .dit import DiT
from .dit_sizes import sized
from .edm2 import EDM2
from .features import Features, features
from .unet import UNet

__all__ = [
    "ADM",
    "DDPMPP",
    "EDM2",
    "DiT",
    "Features",
    "UNet",
    "features",
    "sized",
]

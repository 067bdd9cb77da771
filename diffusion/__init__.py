"""The product: backbones, denoiser, training, checkpoints and the sampling API."""

from .backbones import DiT, UNet
from .clocks import Clock, LogSNRClock, TimeClock
from .data import Batch, Digits, ImageFolder, Source
from .denoiser import Denoiser
from .interrupt import Interrupted
from .model import Model, load
from .recipe import Recipe
from .samples import Samples
from .trainer import train

__all__ = [
    "Batch",
    "Clock",
    "Denoiser",
    "DiT",
    "Digits",
    "ImageFolder",
    "Interrupted",
    "LogSNRClock",
    "Model",
    "Recipe",
    "Samples",
    "Source",
    "TimeClock",
    "UNet",
    "load",
    "train",
]

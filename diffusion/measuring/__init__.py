"""Measuring: how near samples are to data, by whom that was judged, and how sure it is."""

from .defaults import Default, default_extractor
from .digits_features import DigitsFeatures
from .extractor import Extractor, Seen, identity, look
from .frechet import Moments, frechet, moments
from .inception import Inception
from .picture_files import OfFolder
from .pictures import OfSource, OfTensor, Pictures, as_bytes, batches
from .pixels import Pixels
from .spread import Spread, leaders
from .transformers_extractor import CLIP, DINOv2

__all__ = [
    "CLIP",
    "DINOv2",
    "Default",
    "DigitsFeatures",
    "Extractor",
    "Inception",
    "Moments",
    "OfFolder",
    "OfSource",
    "OfTensor",
    "Pictures",
    "Pixels",
    "Seen",
    "Spread",
    "as_bytes",
    "batches",
    "default_extractor",
    "frechet",
    "identity",
    "leaders",
    "look",
    "moments",
]

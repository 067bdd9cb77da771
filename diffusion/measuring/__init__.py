"""Measuring: how near samples are to data, by whom that was judged, and how sure it is."""

from .defaults import Default, default_extractor
from .digits_features import DigitsFeatures
from .extractor import Extractor, Seen, identity, look
from .frechet import Moments, frechet, moments
from .frechet_error import FrechetDistance, frechet_with_error
from .frechet_infinity import Extrapolated, frechet_infinity
from .inception import Inception
from .moments_file import load_about, load_moments, save_moments
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
    "Extrapolated",
    "FrechetDistance",
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
    "frechet_infinity",
    "frechet_with_error",
    "identity",
    "leaders",
    "load_about",
    "load_moments",
    "look",
    "moments",
    "save_moments",
]

"""Measuring: how near samples are to data, by whom that was judged, and how sure it is."""

from .brightness import Brightness, brightness
from .defaults import Default, default_extractor
from .digits_features import DigitsFeatures
from .extractor import Extractor, Seen, identity, look
from .frechet import Moments, frechet, moments
from .frechet_error import FrechetDistance, frechet_with_error
from .frechet_infinity import Extrapolated, frechet_infinity
from .inception import Inception
from .inception_score import InceptionScore, inception_score
from .kernel import KernelDistance, kernel_distance, kernel_distance_of_subsets
from .memorised import HeldOut, Memorised, memorised
from .moments_file import load_about, load_moments, save_moments
from .neighbours import PRDC, nearest, prdc
from .picture_files import OfFolder
from .pictures import OfSource, OfTensor, Pictures, as_bytes, batches
from .pixels import Pixels
from .sliced import Sliced, sliced_wasserstein
from .spread import Spread, leaders
from .transformers_extractor import CLIP, DINOv2

__all__ = [
    "CLIP",
    "PRDC",
    "Brightness",
    "DINOv2",
    "Default",
    "DigitsFeatures",
    "Extractor",
    "Extrapolated",
    "FrechetDistance",
    "HeldOut",
    "Inception",
    "InceptionScore",
    "KernelDistance",
    "Memorised",
    "Moments",
    "OfFolder",
    "OfSource",
    "OfTensor",
    "Pictures",
    "Pixels",
    "Seen",
    "Sliced",
    "Spread",
    "as_bytes",
    "batches",
    "brightness",
    "default_extractor",
    "frechet",
    "frechet_infinity",
    "frechet_with_error",
    "identity",
    "inception_score",
    "kernel_distance",
    "kernel_distance_of_subsets",
    "leaders",
    "load_about",
    "load_moments",
    "look",
    "memorised",
    "moments",
    "nearest",
    "prdc",
    "save_moments",
    "sliced_wasserstein",
]

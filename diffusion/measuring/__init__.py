"""Measuring: how near samples are to data, by whom that was judged, and how sure it is."""

from .extractor import Extractor, Seen, identity, look
from .frechet import Moments, frechet, moments
from .pictures import OfSource, OfTensor, Pictures, as_bytes, batches
from .pixels import Pixels
from .spread import Spread, leaders

__all__ = [
    "Extractor",
    "Moments",
    "OfSource",
    "OfTensor",
    "Pictures",
    "Pixels",
    "Seen",
    "Spread",
    "as_bytes",
    "batches",
    "frechet",
    "identity",
    "leaders",
    "look",
    "moments",
]

"""What is taken where nothing is said: the extractor, and how many classes there are."""

from __future__ import annotations

import math
from typing import Any

from ..data import Digits
from .extractor import Extractor
from .pictures import OfSource, Pictures
from .pixels import Pixels

__all__ = ["classes_of", "usual_extractor"]

# the covariance of more numbers takes longer to make and to take apart than a network's features
_MOST = 4096


def usual_extractor(pictures: Pictures) -> Extractor:
    """The digits classifier for scikit-learn's digits, else the pixels.

    Raises:
        ValueError: for pictures with more than 4,096 numbers, of which no covariance can be had.
    """
    source: Any = pictures.source if isinstance(pictures, OfSource) else None
    while source is not None and not isinstance(source, Digits):
        source = getattr(source, "source", None)
    if source is not None:
        from .digits_features import DigitsFeatures

        return DigitsFeatures()
    if math.prod(pictures.shape) > _MOST:
        raise ValueError(
            f"the pictures are of shape {tuple(pictures.shape)}, too large to compare by their pixels; give an extractor (--extractor "
            "Inception --extractor.weights FILE, or DINOv2 or CLIP with --extractor.folder FOLDER)"
        )
    return Pixels(tuple(pictures.shape))


def classes_of(pictures: Pictures, reference: Pictures | None) -> int:
    """How many classes the pictures have, as they say or as the reference does; 0: not known."""
    made = getattr(pictures, "settings", None)
    null = made[0].get("null_class") if made else None
    if isinstance(null, int):
        return null
    for each in (pictures, reference):
        if isinstance(each, OfSource) and each.source.num_classes:
            return each.source.num_classes
    return 0

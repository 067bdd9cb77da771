"""What is taken where nothing is said: the extractor, and how many classes there are."""

from __future__ import annotations

import math

from .defaults import default_extractor
from .extractor import Extractor
from .pictures import OfSource, Pictures

__all__ = ["classes_of", "usual_extractor"]

# the covariance of more numbers takes longer to make and to take apart than a network's features
_MOST = 4096


def usual_extractor(pictures: Pictures) -> Extractor:
    """Who looks at pictures where nobody was named, see `default_extractor`.

    Raises:
        ValueError: for pictures with more than 4,096 numbers, of which no covariance can be had.
    """
    if math.prod(pictures.shape) > _MOST:
        raise ValueError(
            f"the pictures are of shape {tuple(pictures.shape)}, too large to compare by their pixels; give an extractor (--extractor "
            "Inception --extractor.weights FILE, or DINOv2 or CLIP with --extractor.folder FOLDER)"
        )
    return default_extractor(pictures.shape).extractor


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

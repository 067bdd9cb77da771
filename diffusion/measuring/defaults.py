"""Which extractor judges pictures where none was named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .digits_features import DigitsFeatures
from .extractor import Extractor
from .pixels import Pixels

__all__ = ["Default", "default_extractor"]


class Default(NamedTuple):
    """extractor: what will judge. remark: what a reader of its numbers has to know, one sentence."""

    extractor: Extractor
    remark: str


def default_extractor(shape: Sequence[int]) -> Default:
    """What can judge pictures of a shape without weights from elsewhere.

    Args:
        shape: (C, H, W) of the pictures, C of 1 or 3.

    Returns:
        the digits classifier for (1, 8, 8), raw pixels otherwise.

    Raises:
        ValueError: for another shape.
    """
    if tuple(shape) == (1, 8, 8):
        return Default(
            DigitsFeatures(),
            "Judged by a small classifier of 8x8 digits: of other pictures than digits its numbers say little, and they compare with no "
            "published ones.",
        )
    return Default(
        Pixels(tuple(shape)),
        "Judged by raw pixels, which see means, colours and blur and hardly what a picture shows, and compare with no published numbers; "
        "for FID give the extractor Inception with weights=PATH, or DINOv2 with folder=PATH.",
    )

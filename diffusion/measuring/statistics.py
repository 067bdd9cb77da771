"""Statistics of a reference that were kept in a file."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from .extractor import Extractor, identity
from .frechet import Moments
from .pictures import Pictures
from .record import about

__all__ = ["is_statistics", "save_statistics", "statistics_of"]


def is_statistics(reference: object) -> bool:
    """Whether a reference is the path of an .npz."""
    return isinstance(reference, str | Path) and str(reference).endswith(".npz")


def statistics_of(reference: Any, extractor: Extractor) -> tuple[Moments | None, str]:
    """Moments of a reference that is one, or the path of an .npz, and what is not known of them, in words.

    Args:
        reference: any; what is neither has none.
        extractor: who will look at the pictures.

    Raises:
        ValueError: for statistics of another extractor, and files that can't be read.
    """
    from .moments_file import load_about, load_moments

    told: dict[str, Any] = {}
    if is_statistics(reference):
        told, reference = load_about(reference), load_moments(reference)
    if not isinstance(reference, Moments):
        return None, ""
    if len(reference.mean) != extractor.num_features:
        raise ValueError(
            f"the reference's statistics are of {len(reference.mean)} features, and {type(extractor).__name__} makes "
            f"{extractor.num_features}; take the extractor that they were made with"
        )
    made, own = told.get("extractor"), identity(extractor)
    if not isinstance(made, dict) or "hash" not in made:
        return (
            reference,
            f"the reference's statistics do not say which extractor made them; that it was {own['name']} is an assumption",
        )
    for key in ("name", "hash", "resize"):
        if made.get(key) != own[key]:
            raise ValueError(
                f"the reference's statistics were made by another extractor: its {key} was {made.get(key)!r}, and is {own[key]!r}; make "
                "them again with this one (--save_stats), or take that one"
            )
    return reference, ""


def save_statistics(path: Path, found: Moments, extractor: Extractor, pictures: Pictures) -> None:
    """Write moments with what must be known of them.

    Args:
        path: of the .npz.
        found: the moments.
        extractor: who looked.
        pictures: at what.
    """
    from .moments_file import save_moments

    said = {
        "extractor": identity(extractor),
        "pictures": about(pictures),
        "sfumato": version("sfumato"),
        "torch": torch.__version__,
    }
    save_moments(path, found, said)

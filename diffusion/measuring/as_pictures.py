"""Whatever holds pictures, as pictures to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import Source
from ..samples import Samples
from .picture_files import OfFolder
from .pictures import OfSource, OfTensor, Pictures

__all__ = ["Measurable", "OfSamples", "as_pictures", "check_shapes"]

Measurable = Pictures | Source | Samples | Tensor | str | Path


@dataclass(frozen=True, eq=False)
class OfSamples(OfTensor):
    """Pictures that were just sampled, with how each was made.

    Args:
        settings: of each picture, as `Samples.settings_of` says them.
    """

    settings: Sequence[dict[str, Any]] = ()


def _of_samples(samples: Samples) -> OfSamples:
    """The pictures that were kept, with labels where they were asked for one."""
    kept = samples.pictured.nonzero().flatten()
    if not len(kept):
        raise ValueError("the samples hold no picture: filters rejected all of them; give more retries, or mark=True")
    labels = None
    if samples.labels is not None:
        null = samples.settings.get("null_class")
        labels = samples.labels[kept]
        labels = torch.where(labels == (-1 if null is None else null), -1, labels)
        labels = labels if bool((labels >= 0).any()) else None
    images = samples.images[kept.to(samples.images.device)].cpu()
    return OfSamples(images, labels, [samples.settings_of(i) for i in kept.tolist()])


def as_pictures(given: Measurable, size: int | Sequence[int] | None = None, channels: int | None = None) -> Pictures:
    """Pictures of what holds some.

    Args:
        given: pictures; a data set; what `sample` returned; a tensor, uint8 or in [-1, 1]; or the path of a folder.
        size, channels: of the pictures of a folder; None: their own.

    Raises:
        ValueError: for what holds none.
    """
    if isinstance(given, Samples):
        return _of_samples(given)
    if isinstance(given, Tensor):
        return OfTensor(given)
    if isinstance(given, str | Path):
        return OfFolder(str(given), size, channels)
    if isinstance(given, Pictures):
        return given
    if isinstance(given, Source):
        return OfSource(given)
    if isinstance(given, np.ndarray):
        raise ValueError(
            "an array of numpy holds no pictures here; give torch.from_numpy(it), (N, C, H, W), uint8 or in [-1, 1]"
        )
    if callable(getattr(given, "sample", None)):
        raise ValueError(f"{type(given).__name__} makes pictures, and is none; give what its sample(seeds) returns")
    raise ValueError(
        f"{type(given).__name__} holds no pictures; allowed: the path of a folder, a data set, samples, a tensor (N, C, H, W), or an "
        "object with len, shape, fingerprint, pixels(index) and classes()"
    )


def check_shapes(shape: Sequence[int], name: str, other: Pictures) -> None:
    """Refuse pictures that are compared with others of another shape.

    Args:
        shape: (C, H, W).
        name: of the others, for the message.
        other: the others.

    Raises:
        ValueError: saying which is what.
    """
    if tuple(shape) == tuple(other.shape):
        return
    words = {1: "grey", 3: "RGB"}
    if shape[0] != other.shape[0]:
        raise ValueError(
            f"the pictures are {words[shape[0]]}, and those of {name} are {words[other.shape[0]]}; give channels (1 or 3) for folders of "
            f"pictures, or another {name}"
        )
    raise ValueError(
        f"the pictures are {shape[1]} x {shape[2]} (height x width), and those of {name} {other.shape[1]} x {other.shape[2]}; give size "
        f"for folders of pictures, or another {name}"
    )

"""Which extractor looks at the pictures of a comparison, and at which data, where the user leaves it open."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...diffusion import Model
from ...diffusion.measuring import OfFolder, OfSource, Pictures, default_extractor, identity
from ...diffusion.prepared import trained_on
from ...schedules.parts import build, in_short
from ..arguments import read_config
from .looking import Looking

__all__ = ["what_looks"]

# raw pixels of larger pictures have a covariance that nobody wants
_PIXELS = 4096


def what_looks(options: Any, model: Model, count: int) -> tuple[Looking, list[str]]:
    """The extractor and the data, and remarks for those who read the numbers.

    Args:
        options: run, extractor, reference, reference_count and allow.
        model: whose pictures.
        count: of pictures per set.

    Raises:
        ValueError: for data that were named and are of another shape than the pictures.
    """
    shape = tuple(model.picture_shape)
    remarks: list[str] = []
    extractor = options.extractor
    if extractor is None:
        if math.prod(shape) > _PIXELS:
            return Looking(), [
                "no extractor was named, and pixels of pictures this large say nothing: no Frechet distance; --extractor names one"
            ]
        try:
            extractor, remark = default_extractor(shape)
            identity(extractor)  # what must be trained or read fails here
        except (ValueError, ImportError) as error:
            return Looking(), [f"no Frechet distance: {error}"]
        remarks.append(remark)
    if count < 2:
        return Looking(), ["one picture per set has no Frechet distance; --count 64"]
    named = options.reference is not None or options.reference_path is not None
    try:
        data, says = _data(options, model, shape)
    except (ValueError, ImportError, OSError) as error:
        if named:
            raise
        return Looking(extractor), [*remarks, f"no Frechet distance: the run's own data can't be read: {error}"]
    if data is None:
        return Looking(extractor), [
            *remarks,
            "no real pictures were named: no Frechet distance; --reference FOLDER names some",
        ]
    return Looking(extractor, data, says=says), remarks


def _data(options: Any, model: Model, shape: tuple[int, ...]) -> tuple[Pictures | None, str]:
    """Real pictures, and what they are in words; None where nobody says.

    Raises:
        ValueError: for data of another shape than the pictures.
    """
    if options.reference_path is not None:
        folder = OfFolder(options.reference_path, shape[1:], shape[0])
        if len(folder) > options.reference_count:
            raise ValueError(
                f"reference_path holds {len(folder)} pictures, reference_count is {options.reference_count}; raise it, or give fewer"
            )
        return folder, options.reference_path
    source, own = options.reference, ""
    if source is None:
        config = Path(options.run) / "config.yaml"
        if not config.is_file() or model.vae is not None:
            return None, ""
        source = trained_on(Path(options.run), build(read_config(str(config))["data"], options.allow, "data"))
        own = " (what the model was trained on)"
    if tuple(source.shape) != shape:
        raise ValueError(
            f"reference has pictures of {tuple(source.shape)}, the model makes {shape}; give pictures of that shape"
        )
    return OfSource(source, min(options.reference_count, len(source))), in_short(source) + own

"""What a folder of transformers says of a network that looks at pictures: which it is, and how it wants them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..strange_keys import strange_keys

__all__ = ["HUB", "PREPROCESSORS", "Preprocessing", "check_place", "model_class", "preprocessing"]

HUB = "hub:"
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""The files that may say how pictures are prepared, the first one first."""


class Preprocessing(NamedTuple):
    """size: height and width that the network is fed with. mean, std: of the three channels, of pixels in [0, 1]."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def check_place(says: str, folder: str, revision: str | None, kinds: Mapping[str, str]) -> None:
    """Refuse what can be seen to be wrong without transformers, and without a download.

    Args:
        says: how messages begin, such as "CLIP.folder is 'x'".
        folder: a folder, or "hub:OWNER/NAME".
        revision: of a model of the hub, or None.
        kinds: classes of transformers, by the model types that are wanted.

    Raises:
        ValueError: for what is neither, and a folder that lacks a file or holds another model.
    """
    if folder.startswith(HUB):
        parts = folder.removeprefix(HUB).split("/")
        if len(parts) != 2 or not all(parts):
            raise ValueError(f"{says}; allowed: a folder, or {HUB}OWNER/NAME, which is downloaded")
        return
    if revision is not None:
        raise ValueError(
            f"revision is {revision!r}, and {says}; it is for models of the hub ({HUB}OWNER/NAME); leave it out"
        )
    place = Path(folder)
    if not place.is_dir():
        raise ValueError(
            f"{says}, which is not a folder; allowed: a folder that save_pretrained of transformers wrote, or {HUB}OWNER/NAME, which is "
            "downloaded"
        )
    if not any(place.glob("*.safetensors")):
        pickled = next(iter(sorted(place.glob("*.bin"))), None)
        only = f", only {pickled.name}, a pickle, which is not read" if pickled is not None else ""
        raise ValueError(f"{says}, which holds no safetensors{only}; save it again by save_pretrained")
    model_class(says, place / "config.json", kinds)
    preprocessing(says, [place / file for file in PREPROCESSORS if (place / file).is_file()])


def _read(says: str, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{says}, whose {path.name} can't be read as JSON: {error}") from error
    if not isinstance(found, Mapping):
        raise ValueError(f"{says}, whose {path.name} holds no config")
    if strange := strange_keys(found):
        raise ValueError(f"{says}, whose {path.name} has {', '.join(strange)}; give the plain weights")
    return found


def model_class(says: str, config: Path, kinds: Mapping[str, str]) -> str:
    """The class of transformers that has the wanted feature.

    Args:
        says, kinds: as of `check_place`.
        config: the file.

    Raises:
        ValueError: for a file that can't be read, or is of another model.
    """
    kind = str(_read(says, config).get("model_type"))
    if kind not in kinds:
        raise ValueError(f"{says}, a model of type {kind!r}; allowed: {', '.join(kinds)}")
    return kinds[kind]


def preprocessing(says: str, files: Sequence[Path]) -> Preprocessing:
    """What the network was trained on, of the first of some files.

    Args:
        says: as of `check_place`.
        files: those of PREPROCESSORS that there are.

    Raises:
        ValueError: without a file, and for one that doesn't say a square size, and mean and deviation of three channels.
    """
    if not files:
        raise ValueError(
            f"{says}, which holds no {PREPROCESSORS[0]}, so that size, mean and standard deviation of its pictures are not known; put that "
            "of the model beside its weights"
        )
    found = _read(says, files[0])
    inner = found.get("image_processor")  # of a processor of texts and pictures
    found = inner if isinstance(inner, Mapping) else found
    size, mean, std = _square(found), found.get("image_mean"), found.get("image_std")
    if size is None or not _three(mean) or not _three(std) or not mean or not std or min(std) <= 0:
        raise ValueError(
            f"{says}, whose {files[0].name} has image_mean {mean!r}, image_std {std!r} and a size of {size}; allowed: a square, and three "
            "numbers each"
        )
    scale = found.get("rescale_factor", 1 / 255)
    if not isinstance(scale, int | float) or not math.isclose(scale, 1 / 255, rel_tol=1e-3):
        raise ValueError(f"{says}, whose {files[0].name} has rescale_factor {scale!r}; allowed: 1/255")
    return Preprocessing(size, tuple(map(float, mean)), tuple(map(float, std)))


def _square(found: Mapping[str, Any]) -> int | None:
    """Height and width of what is cut out in the end, or else of what is resized to."""
    cut = found.get("crop_size") if found.get("do_center_crop", True) else None
    size: Any = found.get("size") if cut is None else cut
    if isinstance(size, Mapping):
        edges = {size[key] for key in ("height", "width", "shortest_edge") if size.get(key) is not None}
        size = edges.pop() if len(edges) == 1 else None
    return size if isinstance(size, int) and size >= 1 else None


def _three(values: Any) -> bool:
    return isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) for v in values)

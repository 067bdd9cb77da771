"""Features of DINOv2 and CLIP through transformers: the one file of measuring that knows that library."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..fingerprint import fingerprint
from ..quiet import quietly
from .extractor import Seen
from .resizing import Resizing, as_rgb, resizing_in_words
from .vision_folder import HUB, PREPROCESSORS, Preprocessing, check_place, model_class, preprocessing

__all__ = ["CLIP", "DINOv2"]

_KINDS = {
    "DINOv2": {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"},
    "CLIP": {"clip": "CLIPVisionModelWithProjection", "clip_vision_model": "CLIPVisionModelWithProjection"},
}


class _Loaded(NamedTuple):
    """model: of transformers. hash: of its weights."""

    model: Any
    wants: Preprocessing
    hash: str


@dataclass(frozen=True)
class DINOv2:
    """The class token of DINOv2 after the last norm, what FD-DINOv2 is measured with; its authors ask for ViT-L/14.

    Of the weights only safetensors are read, no code of the folder's is run, and nothing is downloaded unless a model of the hub is named.

    Args:
        folder: with config.json, safetensors and preprocessor_config.json, as transformers writes them; or "hub:OWNER/NAME", such as
            hub:facebook/dinov2-large, which is downloaded when it is first asked.
        resizing: of the whole picture to the size that preprocessor_config.json crops to; see `resized`. "pillow_bytes" is what the authors
            of FD-DINOv2 measured with.
        revision: of a model of the hub.

    Raises:
        ValueError: for a folder that holds no DINOv2, other values, and, when asked, without the library or the network.

    Source: Stein et al. 2023 (2306.04675), whose code takes this feature; Oquab et al. 2023 (2304.07193).
    """

    folder: str
    resizing: Resizing = "pillow_bytes"
    revision: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def _loaded(self) -> _Loaded:
        return _load(self)

    @property
    def num_features(self) -> int:
        return self._loaded.model.config.hidden_size

    @property
    def short(self) -> str:
        return "FD-DINOv2"

    @property
    def fingerprint(self) -> str:
        return self._loaded.hash

    @property
    def resize(self) -> str:
        return _words(self)

    def __call__(self, pictures: Tensor) -> Seen:
        x, model = _fed(self, pictures)
        return Seen(model(pixel_values=x).last_hidden_state[:, 0])


@dataclass(frozen=True)
class CLIP:
    """The image embedding of CLIP after its projection, not normalised, what clean-fid's FD-CLIP is measured with.

    Loaded and refused as `DINOv2` is; the half of CLIP that reads texts is left where it is.

    Args:
        folder: of a CLIP, or of its vision half with the projection; or "hub:OWNER/NAME", such as hub:openai/clip-vit-base-patch32.
        resizing: of the whole picture to the size that preprocessor_config.json crops to; see `resized`.
        revision: of a model of the hub.

    Raises:
        ValueError: for a folder that holds no CLIP, other values, and, when asked, without the library or the network.

    Source: Radford et al. 2021 (2103.00020); Kynkaanniemi et al. 2022 (2203.06026) for distances of its features.
    """

    folder: str
    resizing: Resizing = "pillow_bytes"
    revision: str | None = None

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def _loaded(self) -> _Loaded:
        return _load(self)

    @property
    def num_features(self) -> int:
        return self._loaded.model.config.projection_dim

    @property
    def short(self) -> str:
        return "FD-CLIP"

    @property
    def fingerprint(self) -> str:
        return self._loaded.hash

    @property
    def resize(self) -> str:
        return _words(self)

    def __call__(self, pictures: Tensor) -> Seen:
        x, model = _fed(self, pictures)
        return Seen(model(pixel_values=x).image_embeds)


def _says(extractor: DINOv2 | CLIP) -> str:
    return f"{type(extractor).__name__}.folder is {extractor.folder!r}"


def _check(extractor: DINOv2 | CLIP) -> None:
    name = type(extractor).__name__
    try:
        resizing_in_words(extractor.resizing, 1)
    except ValueError as error:
        raise ValueError(f"{name}.{error}") from error
    check_place(_says(extractor), extractor.folder, extractor.revision, _KINDS[name])


def _load(extractor: DINOv2 | CLIP) -> _Loaded:
    name, says = type(extractor).__name__, _says(extractor)
    try:
        with quietly():
            import transformers
            from transformers.utils.hub import cached_file
    except ImportError as error:
        raise ValueError(f"extractor {name} needs transformers: pip install 'sfumato[text]'") from error
    hub = extractor.folder.startswith(HUB)
    place = extractor.folder.removeprefix(HUB) if hub else str(Path(extractor.folder).resolve())
    where: dict[str, Any] = {"local_files_only": not hub, "revision": extractor.revision or "main"}

    try:
        config = Path(str(cached_file(place, "config.json", **where)))
        rest = [
            cached_file(place, name, _raise_exceptions_for_missing_entries=False, **where) for name in PREPROCESSORS
        ]
    except Exception as error:  # the library's, the network's
        raise ValueError(f"{says}, which can't be loaded: {type(error).__name__}: {error}") from error
    wants = preprocessing(says, [Path(path) for path in rest if path is not None])
    made: Any = getattr(transformers, model_class(says, config, _KINDS[name]))
    try:
        with quietly():
            whole: Any = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False, **where)
            own: Any = whole
            if whole.model_type == "clip":  # its vision half need not know how wide the projection is
                own = whole.vision_config
                own.projection_dim = whole.projection_dim
            safe = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
            model, info = made.from_pretrained(place, config=own, dtype=torch.float32, **safe, **where)
    except Exception as error:  # a folder may be wrong in any way
        raise ValueError(f"{says}, which can't be loaded: {type(error).__name__}: {error}") from error
    if lacks := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):  # they would be left at random
        raise ValueError(f"{says}, whose weights lack {lacks[0]}{f' and {len(lacks) - 1} more' * (len(lacks) > 1)}")
    model.eval().requires_grad_(False)
    return _Loaded(model, wants, fingerprint(model))


def _words(extractor: DINOv2 | CLIP) -> str:
    wants = extractor._loaded.wants
    numbers = " and ".join("/".join(f"{n:.4g}" for n in values) for values in (wants.mean, wants.std))
    return f"{resizing_in_words(extractor.resizing, wants.size)}; mean and std {numbers} of [0, 1]; grey three times"


def _fed(extractor: DINOv2 | CLIP, pictures: Tensor) -> tuple[Tensor, Any]:
    """The pictures as the model was trained on them, and the model where they are."""
    model, wants, _ = extractor._loaded
    x = as_rgb(pictures, wants.size, extractor.resizing) / 255
    mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (wants.mean, wants.std))
    return (x - mean) / std, model.to(pictures.device)

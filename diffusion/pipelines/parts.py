"""A model of diffusers in parts: of a folder, or of an object."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .library import class_of, read_json, read_part

__all__ = ["NETWORKS", "Parts", "check_folder", "kind_of", "read_folder", "read_object"]

NETWORKS = (
    "UNet2DModel",
    "UNet2DConditionModel",
    "DiTTransformer2DModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)
# by pipeline: the parts that read a text
_TEXTS: dict[str, tuple[str, ...]] = {
    "DDPMPipeline": (),
    "DDIMPipeline": (),
    "PNDMPipeline": (),
    "ConsistencyModelPipeline": (),  # of a UNet2DModel with classes; a consistency model itself is refused by its scheduler
    "DiTPipeline": (),
    "StableDiffusionPipeline": ("text_encoder", "tokenizer"),
    "StableDiffusionXLPipeline": ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
    "StableDiffusion3Pipeline": (
        "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3",
    ),
    "FluxPipeline": ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"),
}  # fmt: skip


class Parts(NamedTuple):
    """A model of diffusers in parts.

    name: of the pipeline, or of the network's class. network, vae: modules, or None. scheduler: an object, a folder, or None. pipeline:
    an object with `encode_prompt`, or None.
    """

    name: str
    network: nn.Module
    scheduler: object
    vae: nn.Module | None = None
    pipeline: Any = None


def kind_of(network: object) -> str:
    """Which of NETWORKS an object is; a class that inherits from one is that one.

    Raises:
        ValueError: for another.
    """
    found = [
        c.__name__ for c in type(network).__mro__ if c.__module__.startswith("diffusers.") and c.__name__ in NETWORKS
    ]
    if not found:
        raise ValueError(
            f"a {type(network).__name__} is no network that can be loaded here; allowed: {', '.join(NETWORKS)}"
        )
    return found[0]


def read_object(source: Any) -> Parts:
    """The parts of a pipeline of diffusers, or of a network, as they are.

    Args:
        source: the object.

    Raises:
        ValueError: for a pipeline that does more than sample from a network.
    """
    if not isinstance(getattr(source, "components", None), Mapping):
        kind_of(source)
        return Parts(type(source).__name__, source, None)
    name = type(source).__name__
    _check_pipeline(name)
    parts: Mapping[str, Any] = source.components
    network = parts.get("unet", parts.get("transformer"))
    kind_of(network)
    text = source if _TEXTS[name] and any(parts.get(key) is not None for key in _TEXTS[name]) else None
    return Parts(name, network, parts.get("scheduler"), parts.get("vae"), text)  # pyright: ignore[reportArgumentType]


def read_folder(folder: Path, dtype: torch.dtype, ema: bool, vae: bool = True, text: bool = True) -> Parts:
    """The parts of a folder that save_pretrained of diffusers wrote: safetensors only, nothing downloaded, no class but the libraries' own.

    Args:
        folder: a pipeline's, with model_index.json, or a network's, with config.json.
        dtype: of all weights, but for a VAE that needs more than float16.
        ema: prefer the network's variant "ema".
        vae, text: whether to read these.

    Raises:
        ValueError: for a class of nobody knows whom, pickled weights, weights that lack a key, and files that can't be read.
    """
    if not (folder / "model_index.json").is_file():
        found = None
        if not (folder / "config.json").is_file():  # exported, where no pipeline runs it
            inside = [folder / name for name in ("transformer", "unet") if (folder / name).is_dir()]
            if vae and inside and (folder / "vae").is_dir():
                name = read_json(folder / "vae" / "config.json").get("_class_name")
                found = read_part(folder / "vae", "diffusers", name, dtype)
            folder = inside[0] if inside else folder
        network = _network(folder, "diffusers", read_json(folder / "config.json").get("_class_name"), dtype, ema)
        beside = [p for p in (folder, folder.parent / "scheduler") if (p / "scheduler_config.json").is_file()]
        return Parts(type(network).__name__, network, beside[0] if beside else None, found)
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    _check_pipeline(name)
    assert isinstance(name, str)
    named = {k: (v[0], v[1]) for k, v in index.items() if isinstance(v, list) and len(v) == 2 and v[0]}
    key = next((key for key in ("unet", "transformer") if key in named), None)
    if key is None:
        raise ValueError(f"{folder} holds no unet or transformer, though it is a {name}; give the whole folder")
    network = _network(folder / key, named[key][0], named[key][1], dtype, ema)

    def part(key: str) -> Any:
        return read_part(folder / key, named[key][0], named[key][1], dtype) if key in named else None

    words = {key: part(key) for key in _TEXTS[name]} if text else {}
    pipeline = None
    if any(value is not None for value in words.values()):
        pipeline = _for_text(class_of("diffusers", name, folder), index, {key: network, **words})
    scheduler = folder / "scheduler"
    like = scheduler if (scheduler / "scheduler_config.json").is_file() else None
    return Parts(name, network, like, part("vae") if vae else None, pipeline)


def check_folder(folder: Path) -> None:
    """Refuse a folder whose configs name nothing that can be loaded; no weights are read.

    Args:
        folder: as of `read_folder`.

    Raises:
        ValueError: for a pipeline or a network of another kind, and one without a config.
    """
    if not (folder / "model_index.json").is_file():
        inside = [folder / name for name in ("transformer", "unet") if (folder / name).is_dir()]
        bare = not (folder / "config.json").is_file() and inside
        _check_network(folder, read_json((inside[0] if bare else folder) / "config.json").get("_class_name"))
        return
    index = read_json(folder / "model_index.json")
    _check_pipeline(index.get("_class_name"))
    key = next((key for key in ("unet", "transformer") if index.get(key)), None)
    if key is None:
        raise ValueError(
            f"{folder} holds no unet or transformer, though it is a {index['_class_name']}; give the whole folder"
        )
    _check_network(folder / key, read_json(folder / key / "config.json").get("_class_name"))


def _check_network(folder: Path, name: object) -> None:
    # the published DiT is named after the class that it was before; diffusers makes of it what it is by its config
    if name not in (*NETWORKS, "Transformer2DModel"):
        raise ValueError(f"{folder} is of {name}, no network that can be loaded here; allowed: {', '.join(NETWORKS)}")


def _network(folder: Path, library: str, name: object, dtype: torch.dtype, ema: bool) -> nn.Module:
    class_of(library, name, folder)
    _check_network(folder, name)
    return read_part(folder, library, name, dtype, ema)


def _for_text(cls: Any, index: Mapping[str, Any], parts: Mapping[str, Any]) -> Any:
    """The pipeline itself, without what a text does not need."""
    takes = inspect.signature(cls.__init__).parameters
    # a safety checker judges pictures, and a scheduler and a VAE are read beside
    said: dict[str, Any] = {
        key: None for key in ("vae", "scheduler", "safety_checker", "feature_extractor") if key in takes
    }
    if "requires_safety_checker" in takes:
        said["requires_safety_checker"] = False
    if "force_zeros_for_empty_prompt" in takes:
        said["force_zeros_for_empty_prompt"] = bool(index.get("force_zeros_for_empty_prompt", True))
    return cls(**parts, **said)


def _check_pipeline(name: object) -> None:
    if not isinstance(name, str) or name not in _TEXTS:
        raise ValueError(
            f"a {name} is no pipeline that can be loaded here: it may do more than sample from its network; allowed: {', '.join(_TEXTS)}, "
            "or its network and scheduler alone"
        )

"""Folders of diffusers, read part by part: the only file of this folder that imports diffusers and transformers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["NETWORKS", "Parts", "kind_of", "read_folder", "read_object"]

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
        network = _module(folder, None, dtype, ema)
        beside = [
            place for place in (folder, folder.parent / "scheduler") if (place / "scheduler_config.json").is_file()
        ]
        return Parts(type(network).__name__, network, beside[0] if beside else None)
    index = _json(folder / "model_index.json")
    name = index.get("_class_name")
    _check_pipeline(name)
    assert isinstance(name, str)

    def part(key: str, names: Iterable[str] = ()) -> Any:
        given = index.get(key)
        if not isinstance(given, list) or given[0] is None:
            return None
        return _module(folder / key, given, dtype, ema and key in ("unet", "transformer"), tuple(names))

    network = part("unet", NETWORKS) or part("transformer", NETWORKS)
    if network is None:
        raise ValueError(f"{folder} holds no unet or transformer, though it is a {name}; give the whole folder")
    scheduler = folder / "scheduler"
    pipeline = None
    if text and _TEXTS[name]:
        pipeline = _for_text(name, index, network, {key: part(key) for key in _TEXTS[name]})
    return Parts(
        name, network, scheduler if (scheduler / "scheduler_config.json").is_file() else None, part("vae") if vae else None, pipeline
    )  # fmt: skip


def _for_text(name: str, index: Mapping[str, Any], network: nn.Module, parts: dict[str, Any]) -> Any:
    """The pipeline itself, without what a text does not need."""
    import diffusers

    if all(value is None for value in parts.values()):
        return None
    cls = getattr(diffusers, name)
    said = (
        {"force_zeros_for_empty_prompt": index["force_zeros_for_empty_prompt"]}
        if "force_zeros_for_empty_prompt" in index
        else {}
    )
    if name == "StableDiffusionPipeline":
        said = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    key = "unet" if name in ("StableDiffusionPipeline", "StableDiffusionXLPipeline") else "transformer"
    return cls(vae=None, scheduler=None, **{key: network}, **parts, **said)


def _check_pipeline(name: object) -> None:
    if not isinstance(name, str) or name not in _TEXTS:
        raise ValueError(
            f"a {name} is no pipeline that can be loaded here: it may do more than sample from its network; allowed: {', '.join(_TEXTS)}, "
            "or its network and scheduler alone"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no config")
    return found


def _module(
    folder: Path, named: list[Any] | None, dtype: torch.dtype, ema: bool, allowed: tuple[str, ...] = NETWORKS
) -> Any:
    """A network, VAE, text encoder or tokenizer, by its class in diffusers or transformers."""
    import diffusers

    library, name = ("diffusers", _json(folder / "config.json").get("_class_name")) if named is None else named
    if library not in ("diffusers", "transformers") or not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"{folder} is of {name!r} of {library!r}: a class of one's own, whose code would run; allowed: those of diffusers and "
            "transformers"
        )
    if library == "transformers":
        cls = getattr(_transformers(folder), name, None)
    else:
        cls = getattr(diffusers, name, None)
    if (
        not isinstance(cls, type)
        or not hasattr(cls, "from_pretrained")
        or (library == "diffusers" and not issubclass(cls, nn.Module))
    ):
        raise ValueError(f"{folder} is of {name!r}, which the installed {library} does not have")
    if allowed and name not in allowed:
        raise ValueError(f"{folder} is of {name}, no network that can be loaded here; allowed: {', '.join(allowed)}")
    if not issubclass(cls, nn.Module):
        return _read(cls, folder)
    config = _json(folder / "config.json")
    strange = sorted({"auto_map", "quantization_config"} & set(config))
    if strange:
        raise ValueError(f"{folder}: its config.json has {', '.join(strange)}; give the plain weights")
    if (
        library == "diffusers"
        and dtype == torch.float16
        and config.get("force_upcast", True)
        and hasattr(cls, "decode")
    ):
        dtype = torch.float32  # SDXL's overflows in half precision
    return _weights(cls, folder, library, dtype, _variant(folder, ema))


def _weights(cls: Any, folder: Path, library: str, dtype: torch.dtype, variant: str | None) -> nn.Module:
    said = {"low_cpu_mem_usage": False, "torch_dtype": dtype} if library == "diffusers" else {"dtype": dtype}
    module, found = _read(cls, folder, use_safetensors=True, output_loading_info=True, variant=variant, **said)
    lacks = [*found["missing_keys"], *found["mismatched_keys"]]
    if lacks:  # they would be left at random
        more = f" and {len(lacks) - 1} more" * (len(lacks) > 1)
        raise ValueError(f"{folder}: its weights lack {lacks[0]}{more}")
    return module.eval()


def _read(cls: Any, folder: Path, **said: Any) -> Any:
    try:
        return cls.from_pretrained(str(folder), local_files_only=True, **said)
    except Exception as error:  # a folder may be wrong in any way
        raise ValueError(f"{folder} can't be loaded as {cls.__name__}: {type(error).__name__}: {error}") from error


def _variant(folder: Path, ema: bool) -> str | None:
    """Which files: "ema" where it is wanted and there, the plain ones, or a variant that is the only one.

    Raises:
        ValueError: where there are no safetensors.
    """
    names = [path.name for path in sorted(folder.glob("*.safetensors"))]
    if not names:
        pickled = [path.name for path in sorted(folder.glob("*.bin"))[:1]]
        raise ValueError(
            f"{folder} holds no safetensors{f', only {pickled[0]}, a pickle, which is not read' if pickled else ''}; save it again by "
            "save_pretrained(folder, safe_serialization=True)"
        )
    # name.variant.safetensors, or name.variant-00001-of-00002.safetensors
    variants = {name.split(".")[1].split("-")[0] if name.count(".") == 2 else None for name in names}
    if ema and "ema" in variants:
        return "ema"
    plain = sorted(str(v) for v in variants - {None, "ema"})
    return None if None in variants or not plain else plain[0]


def _transformers(folder: Path) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"{folder} is of transformers, which is not installed; install it: pip install 'sfumato[text]', or load the network alone"
        ) from error
    return transformers

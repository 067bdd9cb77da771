"""One part of a folder of diffusers: the only file of this folder that imports diffusers and transformers."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..quiet import quietly
from ..strange_keys import strange_keys

__all__ = ["class_of", "read_json", "read_part"]


def read_json(path: Path) -> dict[str, Any]:
    """A config.

    Args:
        path: of a JSON file that holds a mapping.

    Raises:
        ValueError: for another.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} can't be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no config")
    return found


def class_of(library: str, name: object, folder: Path) -> Any:
    """A class of diffusers or transformers.

    Args:
        library: which of them.
        name: of the class.
        folder: which says so, for messages.

    Raises:
        ValueError: for another library, and a class that the installed one does not have.
    """
    if library not in ("diffusers", "transformers") or not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"{folder} is of {name!r} of {library!r}: a class of one's own, whose code would run; allowed: those of diffusers and "
            "transformers"
        )
    if library == "transformers":
        with quietly():
            found = getattr(_transformers(folder), name, None)
    else:
        with quietly():
            import diffusers  # heavy, so not before it is asked for

            found = getattr(diffusers, name, None)
    if not isinstance(found, type) or not hasattr(found, "from_pretrained"):
        raise ValueError(f"{folder} is of {name!r}, which the installed {library} does not have")
    return found


def read_part(folder: Path, library: str, name: object, dtype: torch.dtype, ema: bool | None = None) -> Any:
    """A network, VAE, text encoder or tokenizer: safetensors only, nothing downloaded, no code of the folder run.

    Args:
        folder: that save_pretrained wrote.
        library, name: of its class.
        dtype: of its weights, but for a VAE that needs more than float16.
        ema: whether to prefer the variant "ema" (True) or "non_ema" (False); None: neither.

    Raises:
        ValueError: for other classes, pickled weights, weights that lack a key, and files that can't be read.
    """
    cls = class_of(library, name, folder)
    tokenizer = folder.name.startswith("tokenizer")
    wanted = _transformers(folder).PreTrainedTokenizerBase if tokenizer else nn.Module
    if not issubclass(cls, wanted):  # such as AutoModel, which decides by what the folder says
        raise ValueError(f"{folder} is of {name}; allowed: the class of a {'tokenizer' if tokenizer else 'network'}")
    if tokenizer:
        return _read(cls, folder)
    config = read_json(folder / "config.json")
    if (folder / "adapter_config.json").is_file():
        raise ValueError(f"{folder} holds an adapter (adapter_config.json); merge it into the weights, or remove it")
    strange = strange_keys(config)
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
    if strange := list(found["unexpected_keys"]):
        more = f" and {len(strange) - 1} more" * (len(strange) > 1)
        warnings.warn(
            f"{folder}: its weights have {strange[0]}{more}, which a {cls.__name__} does not use", stacklevel=4
        )
    return module.eval()


def _read(cls: Any, folder: Path, **said: Any) -> Any:
    try:
        with quietly(), _no_bars(cls):
            return cls.from_pretrained(str(folder), local_files_only=True, **said)
    except Exception as error:  # a folder may be wrong in any way
        raise ValueError(f"{folder} can't be loaded as {cls.__name__}: {type(error).__name__}: {error}") from error


@contextmanager
def _no_bars(cls: Any) -> Iterator[None]:
    """Without the bar that transformers shows while it copies weights."""
    shows = None
    if cls.__module__.startswith("transformers."):
        from transformers.utils import logging as shows
    if shows is None or not shows.is_progress_bar_enabled():
        yield
        return
    shows.disable_progress_bar()
    try:
        yield
    finally:
        shows.enable_progress_bar()


def _variant(folder: Path, ema: bool | None) -> str | None:
    """Which files: "ema" or "non_ema" as wanted, where it is there; else the plain ones, or a variant that is the only one.

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
    asked = {True: "ema", False: "non_ema", None: ""}[
        ema
    ]  # as SD 1.5 names the raw weights, where the plain ones are the average
    if asked in variants:
        return asked
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

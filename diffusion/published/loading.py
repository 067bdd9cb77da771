"""The model of a published checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...samplers import DDIM
from ..denoiser import Denoiser
from ..model import Model
from ..prompts import Decoder
from ..vae import Vae
from ..whole_file import file_hash
from .parts import Published

__all__ = ["load_published"]

_FAMILIES = ("dit", "adm", "edm")


def load_published(
    file: Path, *, device: str = "cpu", vae: str | Path | Decoder | None = None, size: int | None = None
) -> Model:
    """The model of a checkpoint of DiT, ADM or EDM, as its authors published it; the family is told by the names of its weights.

    Args:
        file: safetensors.
        device: where to put it.
        vae: of a network on latents, what makes pictures of them: a folder of diffusers, or an object with `decode`.
        size: height and width of what it was trained on, pixels (of the latents, where it is a network on latents), where the weights do
            not say it; None: as published.

    Raises:
        ValueError: for a file that can't be read, or of no such network, naming a weight that is missing, unknown or of another shape.
    """
    try:
        weights = load_file(file)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} can't be read as safetensors: {error}") from error
    found = _read(file, weights, size)
    if vae is not None and not found.latents:
        raise ValueError(f"vae is given, but {found.name} makes pictures; leave vae out")
    denoiser = Denoiser(found.backbone, found.schedule, found.row, found.clock)
    try:
        denoiser.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {device!r}, which can't be used here: {error}") from error
    decoder = Vae(vae, device) if isinstance(vae, str | Path) else vae
    source = {"file": file.name, "published": found.name, "sha256": file_hash(file)}
    return Model(
        denoiser.eval(), found.shape, found.num_classes, DDIM(), steps=50, source=source, null_class=found.null_class,
        latents=found.latents, vae=decoder,
    )  # fmt: skip


def _read(file: Path, weights: Mapping[str, Tensor], size: int | None) -> Published:
    for family in _FAMILIES:
        home = import_module(f".{family}", __package__)
        recognises: Callable[[Any], bool] = getattr(home, f"is_{family}")
        if recognises(weights.keys()):
            read: Callable[..., Published] = getattr(home, f"read_{family}")
            return read(weights, size=size)
    some = ", ".join(list(weights)[:3]) or "nothing"
    raise ValueError(
        f"{file} holds {some}, ..., which are no weights of DiT, ADM or EDM in their authors' names; a network of diffusers is loaded by "
        "its folder"
    )

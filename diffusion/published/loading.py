"""The model of a published checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ...guidance import CFG, Plain
from ...samplers import DDIM, Heun
from ...schedules import EDM, Karras, Trailing
from ..denoiser import Denoiser
from ..model import Model
from ..prompts import Decoder
from ..vae import Vae
from ..whole_file import file_hash
from .adm import is_adm, read_adm
from .dit import is_dit, read_dit
from .edm import is_edm, read_edm
from .parts import Published

__all__ = ["check_published", "load_published"]


def load_published(
    file: Path, *, device: str = "cpu", vae: str | Path | Decoder | None = None, size: int | None = None
) -> Model:
    """The model of a checkpoint of DiT, ADM or EDM, as its authors published it; the family is told by the names of its weights.

    Unless told otherwise EDM is sampled as its authors do (Heun, 18 steps), the others by DDIM in 50 steps, DiT under CFG 4.

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
    edm = isinstance(found.row, EDM)
    return Model(
        denoiser.eval(), found.shape, found.num_classes, Heun() if edm else DDIM(), Karras(0.002, 80.0) if edm else Trailing(),
        18 if edm else 50, CFG(4.0) if found.latents else Plain(), source, found.null_class, latents=found.latents, vae=decoder,
    )  # fmt: skip


def check_published(file: Path) -> None:
    """Refuse a file that holds no network of these, by the names of its tensors; no weights are read.

    Args:
        file: safetensors.

    Raises:
        ValueError: saying what it holds.
    """
    try:
        with safe_open(str(file), framework="pt") as opened:
            keys = list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} can't be read as safetensors: {error}") from error
    if not (is_dit(keys) or is_edm(keys) or is_adm(keys)):
        raise _unknown(file, keys)


def _unknown(file: Path, keys: Iterable[str]) -> ValueError:
    some = ", ".join(list(keys)[:3]) or "nothing"
    return ValueError(
        f"{file} holds {some}, ..., which are no weights of DiT, ADM or EDM in their authors' names; a network of diffusers is loaded by "
        "its folder"
    )


def _read(file: Path, weights: Mapping[str, Tensor], size: int | None) -> Published:
    keys = weights.keys()
    if is_dit(keys):
        if size is not None:
            raise ValueError(f"size is {size}, but the positions of a DiT say its size; leave size out")
        return read_dit(weights)
    if is_edm(keys):
        return read_edm(weights, size)
    if is_adm(keys):
        return read_adm(weights, size)
    raise _unknown(file, keys)

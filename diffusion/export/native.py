"""Networks, schedulers and pipelines of diffusers, made, written and read; the only file here that imports diffusers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..quiet import quietly

with quietly():
    import diffusers
    from diffusers.utils import logging

from .process import Process
from .resnets import Native

__all__ = ["make_network", "pipeline_of", "read_network", "read_pipeline", "read_scheduler", "write"]


def _class(name: str) -> Any:
    with quietly():  # a class is imported when it is asked for
        return getattr(diffusers, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' remarks, which are on what is meant so: a scheduler of another class than the pipeline names; and its bars."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def make_network(native: Native) -> nn.Module:
    """The network, with its weights, ready to be asked.

    Raises:
        RuntimeError: where names or shapes are not the class's.
    """
    with torch.device("cpu"):
        made = _class(native.kind)(**native.config)
    made.load_state_dict(native.weights, strict=True)
    return made.eval().requires_grad_(False)


def pipeline_of(native: Native, process: Process, latents: bool = False, vae: bool = False) -> str | None:
    """The pipeline of diffusers that runs a network under a scheduler; None: there is none.

    Args:
        native: the network.
        process: the scheduler.
        latents: whether it makes latents: those that run a UNet2DModel would cut them as if they were pictures.
        vae: whether their VAE goes along.
    """
    if native.kind != "UNet2DModel" or latents:
        return "DiTPipeline" if vae and native.kind == "DiTTransformer2DModel" else None
    # the one pipeline that tells a UNet2DModel classes, and the one that scales its input and the starting noise
    classes = native.config["num_class_embeds"] is not None
    if not classes and not process.scaled:
        return "DDPMPipeline"
    # it makes square pictures only, and asks the scheduler to scale the network's input, which that of flows can't
    fits = isinstance(native.config["sample_size"], int) and hasattr(_class(process.kind), "scale_model_input")
    return "ConsistencyModelPipeline" if fits else None


def write(
    folder: Path, native: Native, process: Process, variants: Mapping[str, Mapping[str, Tensor]], pipeline: str | None,
    vae: Path | None = None, names: Mapping[int, str] | None = None,
) -> None:  # fmt: skip
    """Write the folder of a pipeline, or those of a network and a scheduler where no pipeline of diffusers runs them.

    Args:
        folder: that is there.
        native: the network.
        process: the scheduler.
        variants: weights by variant; "" is the one that is loaded unless told otherwise.
        pipeline: of diffusers that runs them; None: none does.
        vae: folder of the VAE, which is copied file by file, so that its hashes stay.
        names: of the classes, by label.
    """
    network: Any = make_network(native)
    scheduler = _class(process.kind)(**process.config)
    parts: dict[str, Any] = {native.folder: network, "scheduler": scheduler}
    with _quiet():
        if vae is not None:
            (folder / "vae").mkdir()
            for path in (
                p for end in ("config.json", "*.safetensors", "*.safetensors.index.json") for p in vae.glob(end)
            ):
                shutil.copyfile(path, folder / "vae" / path.name)
        if pipeline is not None:
            if vae is not None:
                parts["vae"] = read_network(folder / "vae", "AutoencoderKL", "")
            made = _class(pipeline)(**parts)
            if names:  # its constructor reads them, and does not keep them
                made.register_to_config(id2label={str(label): name for label, name in names.items()})
            made.save_config(folder)
        scheduler.save_pretrained(folder / "scheduler")
        for variant, weights in variants.items():
            network.load_state_dict(weights, strict=True)
            network.save_pretrained(folder / native.folder, variant=variant or None, safe_serialization=True)


def read_network(folder: Path, kind: str, variant: str) -> Any:
    """A network as somebody else would load it, of a variant ("": the plain weights)."""
    with _quiet():
        return _class(kind).from_pretrained(folder, variant=variant or None, local_files_only=True).eval()


def read_pipeline(folder: Path, variant: str) -> Any:
    """A pipeline as somebody else would load it, of a variant ("": the plain weights)."""
    with _quiet():
        made = _class("DiffusionPipeline").from_pretrained(folder, variant=variant or None, local_files_only=True)
        made.set_progress_bar_config(disable=True)
        return made


def read_scheduler(folder: Path, kind: str) -> Any:
    """A scheduler as somebody else would load it."""
    return _class(kind).from_pretrained(folder, local_files_only=True)

"""Networks, schedulers and pipelines of diffusers, made, written and read; the only file here that imports diffusers."""

from __future__ import annotations

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

__all__ = ["make_network", "pipeline_of", "read_network", "read_scheduler", "write"]


def _class(name: str) -> Any:
    with quietly():  # a class is imported when it is asked for
        return getattr(diffusers, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' remarks, which are on what is meant so: a scheduler of another class than the pipeline names."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def make_network(native: Native) -> nn.Module:
    """The network, with its weights, ready to be asked.

    Raises:
        RuntimeError: where names or shapes are not the class's.
    """
    with torch.device("cpu"):
        made = _class(native.kind)(**native.config)
    made.load_state_dict(native.weights, strict=True)
    return made.eval().requires_grad_(False)


def pipeline_of(native: Native, process: Process) -> str | None:
    """The pipeline of diffusers that runs a network under a scheduler; None: there is none."""
    if native.kind != "UNet2DModel":
        return None
    # the one pipeline that tells a UNet2DModel classes, and the one that scales its input and the starting noise
    classes = native.config["num_class_embeds"] is not None
    return "ConsistencyModelPipeline" if classes or process.scaled else "DDPMPipeline"


def write(folder: Path, native: Native, process: Process, variants: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write the folder of a pipeline, or those of a network and a scheduler where no pipeline of diffusers runs them.

    Args:
        folder: that is there.
        native: the network.
        process: the scheduler.
        variants: weights by variant; "" is the one that is loaded unless told otherwise.
    """
    network: Any = make_network(native)
    scheduler = _class(process.kind)(**process.config)
    name = pipeline_of(native, process)
    with _quiet():
        if name is not None:
            _class(name)(**{native.folder: network, "scheduler": scheduler}).save_pretrained(folder)
        else:
            scheduler.save_pretrained(folder / "scheduler")
        for variant, weights in variants.items():
            network.load_state_dict(weights, strict=True)
            network.save_pretrained(folder / native.folder, variant=variant or None, safe_serialization=True)


def read_network(folder: Path, kind: str, variant: str) -> Any:
    """A network as somebody else would load it, of a variant ("": the plain weights)."""
    with _quiet():
        return _class(kind).from_pretrained(folder, variant=variant or None, local_files_only=True).eval()


def read_scheduler(folder: Path, kind: str) -> Any:
    """A scheduler as somebody else would load it."""
    return _class(kind).from_pretrained(folder, local_files_only=True)

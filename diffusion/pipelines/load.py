"""A model of diffusers, ready to be sampled from by our parts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ...guidance import CFG, Guidance, Plain
from ...schedules.diffusers_config import read_config, read_process
from ..clocks import Clock
from ..denoiser import Denoiser
from ..model import Model
from ..prompts import Decoder, TextEncoder
from ..vae import Precision, Vae
from .clock import clock_of
from .dit import DiTTransformer
from .exported import read_exported
from .flux import FluxTransformer
from .parts import Parts, kind_of, read_folder, read_object
from .sampling import sampling_of
from .sd3 import SD3Transformer
from .text import Kind, PipelineText
from .unet2d import UNet2D
from .unet2d_condition import UNet2DCondition, UNet2DConditionXL

__all__ = ["load_pipeline"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _Family(NamedTuple):
    """adapter: of its networks. scale: of CFG, steps: the pipeline's defaults. text: which `encode_prompt`. side: of the latents where
    the network does not say."""

    adapter: Callable[[nn.Module], Any]
    scale: float | None
    steps: int
    text: Kind | None = None
    side: int = 64


_FAMILIES: dict[str, _Family] = {
    "UNet2DModel": _Family(UNet2D, None, 50),
    "UNet2DConditionModel": _Family(UNet2DCondition, 7.5, 50, "sd"),
    "XL": _Family(UNet2DConditionXL, 5.0, 50, "sdxl", 128),
    "DiTTransformer2DModel": _Family(DiTTransformer, 4.0, 50),
    "SD3Transformer2DModel": _Family(SD3Transformer, 7.0, 28, "sd3", 128),
    "FluxTransformer2DModel": _Family(FluxTransformer, None, 28, "flux", 128),
}


def load_pipeline(
    source: str | Path | object, *, device: str = "cpu", precision: Precision = "fp32", size: int | tuple[int, int] | None = None,
    scheduler: object = None, vae: str | Path | Decoder | None = None, text: TextEncoder | None = None, ema: bool = True,
    classes: int | None = None, clock: Clock | None = None, text_tokens: int | None = None, embedded_guidance: float | None = None,
) -> Model:  # fmt: skip
    """A model of diffusers, which all samplers, rules of guidance and filters work on; its own sampling is the pipeline's, or the nearest.

    Nothing is downloaded or unpickled, and no code of a folder runs. A safety checker is not asked: it judges finished
    pictures, which a filter can do here.

    Args:
        source: a folder that save_pretrained wrote, of a pipeline or of a network (UNet2DModel, UNet2DConditionModel,
            DiTTransformer2DModel, SD3Transformer2DModel, FluxTransformer2DModel), or such an object, which is used and not copied.
        device, precision: where and in what to compute. An object stays where and as it is, unless told otherwise.
        size: height and width of the pictures, pixels; without a VAE, of what the network makes. None: as it was trained.
        scheduler: of what the network was trained on: an object, its config or its folder. None: the pipeline's, or the one beside the
            network.
        vae: what makes pictures of latents: a folder, or an object with `decode`. None: the pipeline's.
        text: the encoder of prompts. None: the pipeline's.
        ema: the network's variant "ema" where there is one.
        classes: of a UNet2DModel, see UNet2D.
        clock: level -> the number that the network is told. None: what its scheduler tells it.
        text_tokens: see PipelineText.
        embedded_guidance: the number that FLUX.1 dev is told; None: 3.5.

    Raises:
        ValueError: for a class that is not served, weights that are not whole, no scheduler, and a size that the network can't make.
        PairingError: for a path from zero SNR under a network that predicts eps.
    """
    if precision not in _DTYPES:
        raise ValueError(f"precision is {precision!r}; allowed: {', '.join(_DTYPES)}")
    place = Path(source) if isinstance(source, str | Path) else None
    if place is not None:
        parts = read_folder(place, _DTYPES[precision], ema, vae is None, text is None)
    else:
        parts = read_object(source)
    network, kind = parts.network, kind_of(parts.network)
    if kind == "UNet2DConditionModel" and dict(network.config).get("addition_embed_type") is not None:  # pyright: ignore[reportCallIssue,reportArgumentType]
        kind = "XL"
    family = _FAMILIES[kind]
    own = None if place is None else read_exported(place)  # what left from here comes back as it was
    if own is not None and kind == "UNet2DModel" and classes is None:
        classes = own.classes
    backbone: Any = UNet2D(network, classes) if kind == "UNet2DModel" else family.adapter(network)
    if own is not None and kind == "DiTTransformer2DModel":
        backbone = DiTTransformer(network, own.classes)
    for name, given, serves in (
        ("classes", classes, UNet2D),
        ("embedded_guidance", embedded_guidance, FluxTransformer),
    ):
        if given is not None and not isinstance(backbone, serves):
            raise ValueError(f"{name} is {given}, which says nothing about a {type(network).__name__}; leave it out")
    if isinstance(backbone, FluxTransformer) and embedded_guidance is not None:
        backbone.guidance = float(embedded_guidance)
    _move(parts, place is not None, device, precision)
    decoder = _decoder(vae, parts, device, precision)
    shape, pixels = _shapes(backbone, family, decoder, size)
    like = parts.scheduler if scheduler is None else scheduler
    if like is None:
        raise ValueError(
            f"a {parts.name} without a scheduler says nothing about the path it was trained on; give scheduler: an object of diffusers, "
            "its config, or its folder"
        )
    tokens = shape[1] * shape[2] // backbone.multiple**2
    process, (name, config) = read_process(like, tokens), read_config(like)
    told = clock_of(name, config, process.schedule, process.row) if clock is None else clock
    denoiser = Denoiser(backbone, process.schedule, process.row, told).eval()
    encoder = text
    if encoder is None and parts.pipeline is not None and family.text is not None:
        encoder = PipelineText(parts.pipeline, family.text, pixels, text_tokens)
    null = bool(getattr(backbone, "null_class", True)) and (own is None or own.null or not own.classes)
    if own is None or scheduler is not None or None in own:
        sampler, grid = sampling_of(like, kind == "FluxTransformer2DModel")
        steps = 1000 if parts.name == "DDPMPipeline" else family.steps
        guidance = _guidance(
            family, encoder is not None or (kind == "DiTTransformer2DModel" and backbone.num_classes > 0)
        )
    else:
        sampler, grid, steps, guidance = own.sampler, own.grid, own.steps, own.guidance
        assert sampler is not None
        assert grid is not None
        assert guidance is not None
    latents = decoder is not None or (kind != "UNet2DModel" if own is None else own.latents)
    return Model(
        denoiser, shape, backbone.num_classes if encoder is None else 0, sampler, grid, steps, guidance,
        _source(parts, place, backbone, ema, vae), null, text=encoder, vae=decoder, latents=latents,
    )  # fmt: skip


def _guidance(family: _Family, conditioned: bool) -> Guidance:
    return CFG(family.scale) if family.scale is not None and conditioned else Plain()


def _source(parts: Parts, place: Path | None, backbone: Any, ema: bool, vae: object) -> dict[str, Any]:
    """What pictures say of the model: what makes others of them, so that a job is not gone on with by another model."""
    named = {} if place is None else {"folder": place.resolve().name, "ema": ema}
    dtype = str(next(parts.network.parameters()).dtype).removeprefix("torch.")
    decoder = {"vae": Path(vae).resolve().name} if isinstance(vae, str | Path) else {}
    distilled = {"embedded_guidance": backbone.guidance} if getattr(backbone, "distilled", False) else {}
    return {"diffusers": parts.name, **named, "dtype": dtype, **decoder, **distilled}


def _move(parts: Parts, fresh: bool, device: str, precision: Precision) -> None:
    """Put the modules where they are wanted; objects of the caller only where something was said."""
    try:
        for module in (parts.network, *(getattr(parts.pipeline, "components", {}) or {}).values()):
            if isinstance(module, nn.Module) and (fresh or device != "cpu"):
                module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {device!r}, which can't be used here: {error}") from error
    if not fresh and precision != "fp32":
        parts.network.to(_DTYPES[precision])
    parts.network.eval()


def _decoder(vae: str | Path | Decoder | None, parts: Parts, device: str, precision: Precision) -> Decoder | None:
    if isinstance(vae, str | Path):
        found = Vae(vae, device, precision)
        return Vae(vae, device, "fp32") if found.overflows else found
    given = parts.vae if vae is None else vae
    if isinstance(given, nn.Module):
        found = Vae.of(given.to(device) if device != "cpu" else given)
        # the caller's stays as it is
        return Vae.of(copy.deepcopy(given).float()) if found.overflows else found
    if given is not None and not isinstance(given, Decoder):
        raise ValueError(
            f"vae is {given!r}; allowed: a folder of diffusers, its object, or an object with decode and picture_shape"
        )
    return given


def _shapes(
    backbone: Any, family: _Family, decoder: Decoder | None, size: int | tuple[int, int] | None
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """(C, H, W) of what the network makes, and (height, width) of the pictures."""
    side = backbone.size or family.side
    unit = backbone.multiple
    factor = 1
    if decoder is not None:
        channels, across = backbone.channels, 8 * unit
        factor = decoder.picture_shape((channels, across, across))[1] // across
    if size is None:
        height, width = _own_size(backbone, side)
    else:
        wanted = tuple(size) if isinstance(size, tuple | list) else (size, size)
        step = factor * unit
        if len(wanted) != 2 or any(not isinstance(v, int) or v < step or v % step for v in wanted):
            raise ValueError(f"size is {size!r}; allowed: height and width in pixels, whole multiples of {step}")
        height, width = wanted[0] // factor, wanted[1] // factor
    most = getattr(backbone, "most", None)
    if most is not None and max(height, width) > most:
        raise ValueError(f"size is {size!r}; this network knows positions for at most {most * factor} pixels a side")
    if isinstance(backbone, DiTTransformer) and height != width:
        raise ValueError(f"size is {size!r}; a DiTTransformer2DModel makes squares, give one number")
    return (backbone.channels, height, width), (height * factor, width * factor)


def _own_size(backbone: Any, side: int) -> tuple[int, int]:
    given = dict(backbone.network.config).get("sample_size")
    return (int(given[0]), int(given[1])) if isinstance(given, list | tuple) else (side, side)

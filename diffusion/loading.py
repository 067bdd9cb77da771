"""The model of a run folder, of a folder or an object of diffusers, or of a published checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from .backbones.attention import Backend
from .backbones.attention_probe import set_attention
from .compiling import compile_forward
from .cuda_graph import graph_forward
from .half_weights import HALVES, halve_weights
from .model import Model
from .prompts import Decoder, TextEncoder
from .quantise import quantised
from .run_model import load_run
from .vae import Precision, Vae

__all__ = ["check_options", "kind_of", "load"]


def load(
    source: str | Path | object, *, ema: bool | float = True, device: str = "cpu", allow: Sequence[str] = (), step: int | None = None,
    vae: str | Path | Decoder | None = None, text: TextEncoder | str | Path | None = None, scheduler: object = None,
    size: int | tuple[int, int] | None = None, precision: Precision = "fp32", attention: Backend = "auto",
    compile: Literal["blocks", "whole"] | None = None, quantize: str | None = None, classes: int | None = None,
    embedded_guidance: float | None = None, graph: bool = False,
) -> Model:  # fmt: skip
    """A model, ready to sample: of a run, of diffusers, or of a published checkpoint. Nothing is downloaded, and nothing is unpickled.

    Args:
        source: a run folder that `sfumato train` wrote; a folder of diffusers (a pipeline's, with model_index.json, or a network's, with
            config.json); a pipeline or network of diffusers; or a .safetensors file of DiT, ADM or EDM in its authors' own form.
        ema: the exponential average of the weights, or the raw ones; a number: the average of that length (sigma_rel, above 0 to 0.3), as
            the checkpoint of a run stored it or `sfumato ema` made it, or else made now of what the run stored. Of a folder of diffusers:
            its variant "ema", where there is one.
        device: where to put it.
        allow: packages whose classes a run's config may name, beside Sfumato's.
        step: of a run: the checkpoint of that optimizer step, of those that the run kept; an average of a length may be of any step for
            which one can be made. None: the newest valid one.
        vae: what makes pictures of latents: a folder of diffusers, or an object with `decode`. None: the pipeline's own; a run on latents
            then hands out latents.
        text: the encoder of prompts; of a run also the folder where its own is now. None: the run's own, or the pipeline's.
        scheduler: of a network of diffusers without one beside it: a scheduler, its config or its folder. It says what the network was
            trained on.
        size: height and width of the pictures, pixels, for networks that take any; None: as they were trained.
        precision: of a network of diffusers, and of its VAE and text encoders; of a network of ours: what its linear layers and
            convolutions compute in, as training with that precision does.
        attention: by which back-end a network of ours attends; "auto" never fails, see `sfumato doctor` for others.
        compile: compile its blocks, each kind of them once, or the whole network, for sampling; the first pictures wait for that.
        classes: of a UNet2DModel of diffusers, how many of the classes that it embeds are classes, where one more is the null class.
        embedded_guidance: the number that FLUX.1 dev is told instead of being guided; None: 3.5.
        quantize: "int8_weights", "int8" or "int8_static": its linear layers in int8, see `quantised`.
        graph: record the network as a CUDA graph for each kind of input, which a small batch on a GPU gains by, see `graph_forward`; with
            compile: what is compiled.

    Raises:
        ValueError: for what is none of these, holds no valid weights or not those of `step`, names classes that are not allowed, or can't
            be made; and for an option that says nothing about such a source.
    """
    model = _load(
        source, ema, device, allow, step, vae, text,
        {
            "scheduler": scheduler, "size": size, "precision": None if precision == "fp32" else precision, "classes": classes,
            "embedded_guidance": embedded_guidance,
        },
    )  # fmt: skip
    backbone = model.denoiser.backbone
    half = precision != "fp32" and kind_of(source) != "diffusers"
    if half and precision not in HALVES:
        raise ValueError(f"precision is {precision!r}; allowed: fp32, {', '.join(HALVES)}")
    if attention != "auto":
        set_attention(backbone, attention, model.device, HALVES[precision] if half else torch.float32)
    if half:
        halve_weights(backbone, precision)
        model = replace(model, source={**model.source, "precision": precision})
    if quantize is not None:
        model = quantised(model, quantize)
        backbone = model.denoiser.backbone
    if compile is not None:
        compile_forward(backbone, compile, inference=True)
    if graph:
        graph_forward(backbone)
    return model


def _load(
    source: str | Path | object, ema: bool | float, device: str, allow: Sequence[str], step: int | None,
    vae: str | Path | Decoder | None, text: TextEncoder | str | Path | None, only: dict[str, Any],
) -> Model:  # fmt: skip
    """The model as it is; `only`: options that say something about some kinds of source."""
    kind = kind_of(source)
    check_options(kind, {"step": step, **only})
    if kind == "run":
        assert isinstance(source, str | Path)
        decoder = Vae(vae, device) if isinstance(vae, str | Path) else vae
        return load_run(source, ema=ema, device=device, allow=allow, step=step, vae=decoder, text=text)
    if not isinstance(ema, bool):
        raise ValueError(f"ema is {ema}, but only a run has averages of several lengths; allowed: true, false")
    if kind == "file":
        if text is not None:
            raise ValueError(f"text is {text!r}, which says nothing about {_WORDS[kind]}; leave it out")
        from .published import load_published

        return load_published(Path(str(source)), device=device, vae=vae, size=_one(only["size"]))
    if isinstance(text, str | Path):
        raise ValueError(
            f"text is {str(text)!r}; of a pipeline give an encoder, such as HuggingFaceText({str(text)!r}), or leave it out"
        )
    from .pipelines import load_pipeline

    return load_pipeline(
        source, device=device, precision=only["precision"] or "fp32", size=only["size"], scheduler=only["scheduler"], vae=vae, text=text,
        ema=ema, classes=only["classes"], embedded_guidance=only["embedded_guidance"],
    )  # fmt: skip


_TAKES: dict[str, set[str]] = {
    "run": {"step", "precision"}, "file": {"size", "precision"},
    "diffusers": {"scheduler", "size", "precision", "classes", "embedded_guidance"},
}  # fmt: skip
_WORDS = {"run": "a run", "file": "a published checkpoint", "diffusers": "a model of diffusers"}


def check_options(kind: str, given: Mapping[str, Any]) -> None:
    """Refuse an option that says nothing about such a source.

    Args:
        kind: as of `kind_of`.
        given: options of `load` that not every source takes, by name; None: not given.

    Raises:
        ValueError: naming the option.
    """
    for name in given.keys() - _TAKES[kind]:
        if given[name] is not None:
            raise ValueError(f"{name} is {given[name]!r}, which says nothing about {_WORDS[kind]}; leave it out")


def kind_of(source: object) -> str:
    """What a source is: "run", "diffusers" or "file". Only whether files are there is looked at.

    Args:
        source: as of `load`.

    Raises:
        ValueError: for a place where there is none of these.
    """
    if not isinstance(source, str | Path):
        return "diffusers"
    place = Path(source)
    if place.is_file():
        if place.suffix == ".safetensors":
            return "file"
        raise ValueError(
            f"{source} is a file; allowed: a run folder, a folder of diffusers, or a .safetensors file. Weights in a pickle (.pt, .bin) "
            'are converted first; README, "Published checkpoints", has the line'
        )
    if (place / "config.yaml").is_file():
        return "run"
    exported = (place / "sfumato.yaml").is_file()
    if exported or (place / "model_index.json").is_file() or _names_class(place / "config.json"):
        return "diffusers"
    raise ValueError(
        f"{source} is not a run folder: it holds no config.yaml (a run is made by `sfumato train`), and no model_index.json or config.json "
        "of diffusers either"
    )


def _names_class(path: Path) -> bool:
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and isinstance(config.get("_class_name"), str)


def _one(size: int | tuple[int, int] | None) -> int | None:
    if isinstance(size, int) or size is None:
        return size
    if size[0] != size[1]:
        raise ValueError(f"size is {size}; a published checkpoint makes squares; give one number")
    return size[0]

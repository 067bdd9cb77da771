"""Inference in int8: which layers of a network, and a model of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from fnmatch import fnmatchcase

import torch
from torch import nn

from .int8_linear import Range, check_kind, to_int8
from .model import Model
from .own_inputs import RangeSearch
from .static_ranges import static_ranges

__all__ = ["KEEP", "quantisable", "quantise", "quantised"]

KEEP = (
    # what a network is told: times, classes, texts, augmentations
    "*embed*", "*emb_proj*", "*time*", "*label*", "condition.*", "told", "*.told", "text_*", "caption_projection*",
    # what scales and shifts a norm by it
    "*modulation*", "*norm*", "*ada*", "*.shift",
    # the first and the last layer, by the names that ours and those of diffusers have
    "stem", "head", "conv_in", "conv_out", "proj_out", "proj_out_[12]", "final_layer*",
)  # fmt: skip
"""Names of layers that stay in full precision, as patterns of fnmatch. They are a small part of the work, and what they say reaches every
pixel."""

_WITHIN = (
    "network."  # where adapters hold a network of diffusers; its layers are kept by the names that they have there
)

LEAST = 32  # features in or out below which int8 saves nothing


def quantisable(network: nn.Module, keep: Sequence[str] = KEEP) -> list[str]:
    """Names of the linear layers that `quantise` takes: those of at least 32 features, multiples of 8, that `keep` does not name.

    A layer that computes something else than its weights say (a subclass with a forward of its own) is left alone.

    Args:
        network: any.
        keep: patterns of names, as in fnmatch: * for any letters.
    """
    return [
        name for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear)
        and type(layer).forward is nn.Linear.forward
        and min(layer.in_features, layer.out_features) >= LEAST
        and layer.in_features % 8 == 0 and layer.out_features % 8 == 0
        and not any(fnmatchcase(name.removeprefix(_WITHIN), pattern) for pattern in keep)
    ]  # fmt: skip


def quantise(
    network: nn.Module, kind: str = "int8", keep: Sequence[str] = KEEP, ranges: Mapping[str, Range] | None = None
) -> list[str]:
    """Turn the weights of a network's linear layers into int8, in place, for inference; convolutions stay, torchao has none in int8.

    Args:
        network: any backbone.
        kind: "int8_weights": weights only, a quarter of the memory, products in floating point. "int8": inputs are scaled as they come,
            one scale per token, and products are those of whole numbers. "int8_static": likewise, inputs by `ranges`.
        keep: names of layers that stay, as patterns.
        ranges: what each layer's inputs are cut to, by name, for int8_static; see `static_ranges`.

    Returns:
        The names of the layers.

    Raises:
        ValueError: for a kind that is none, or does not run on the network's device; for a network without such a layer, and a range that
            is missing.
    """
    names = _checked(network, kind, keep)
    if kind == "int8_static":
        lacking = [name for name in names if name not in (ranges or {})]
        if lacking:
            raise ValueError(
                f"quantize is int8_static, and ranges lack {', '.join(lacking[:4])}{', ...' if len(lacking) > 4 else ''}; find them with "
                "static_ranges, or keep these layers"
            )
    for name in names:
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        to_int8(layer, kind, (ranges or {}).get(name))
    return names


def quantised(
    model: Model, kind: str = "int8", *, keep: Sequence[str] = KEEP, search: RangeSearch | None = None,
    prompts: Sequence[str] | None = None,
) -> Model:  # fmt: skip
    """The same model with a quantised copy of its network; what it samples says so in its settings.

    Args:
        model: the model; it stays as it is. A weaker network beside it is not touched.
        kind, keep: see `quantise`.
        search: how the ranges of int8_static are found; None: RangeSearch().
        prompts: under which texts, in turn, ranges are looked for; of a model that knows texts, for int8_static.

    Raises:
        ValueError: as `quantise`; for a model that is quantised already, and a search for a kind that has none.
    """
    if "quantize" in model.source:
        raise ValueError(f"this model is quantised already, as {model.source['quantize']['kind']}; load it again")
    if search is not None and kind != "int8_static":
        raise ValueError(f"quantize is {kind!r}, which looks for no ranges; leave search out, or take int8_static")
    names = _checked(model.denoiser.backbone, kind, keep)
    said: dict[str, object] = {"kind": kind, "layers": len(names), "keep": list(keep)}
    ranges = None
    if kind == "int8_static":
        search = search or RangeSearch()
        if model.text is not None and not prompts:
            raise ValueError(
                "quantize is int8_static, and this model knows texts; give prompts=[...], under which the ranges of activations are found, "
                "or take int8"
            )
        ranges = static_ranges(model, names, search, prompts)
        said["ranges"] = asdict(search) | ({} if prompts is None else {"prompts": list(prompts)})
    denoiser = copy.deepcopy(model.denoiser).eval().requires_grad_(False)
    quantise(denoiser.backbone, kind, keep, ranges)
    return replace(model, denoiser=denoiser, source={**model.source, "quantize": said})


def _checked(network: nn.Module, kind: str, keep: Sequence[str]) -> list[str]:
    """The layers to quantise, where all is well."""
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    check_kind(kind, device)
    names = quantisable(network, keep)
    if names:
        return names
    convolutions = sum(isinstance(m, nn.modules.conv._ConvNd) for m in network.modules())
    why = f"its {convolutions} convolutions stay in full precision, and " if convolutions else ""
    raise ValueError(
        f"quantize is {kind!r}, but {type(network).__name__} has no linear layer to quantise: {why}layers named in keep, or of fewer than "
        f"{LEAST} features, stay too; take a transformer (DiT), or another keep"
    )

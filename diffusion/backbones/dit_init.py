"""Which arguments make a diffusion transformer, and its weights before training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from .blocks import zeroed
from .dit_layer import Layer

if TYPE_CHECKING:
    from .dit import DiT

__all__ = ["check_arguments", "initialise"]


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse what no DiT can be built with.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """
    for key in ("channels", "size", "patch", "depth", "heads", "out_channels"):
        if given[key] is not None and given[key] < 1:
            raise ValueError(f"{key} is {given[key]}; allowed: >= 1")
    for key in ("registers", "text_width"):
        if given[key] < 0:
            raise ValueError(f"{key} is {given[key]}; allowed: >= 0 (0: none)")
    size, patch, width, heads = (given[key] for key in ("size", "patch", "width", "heads"))
    if size % patch:
        raise ValueError(f"size is {size}; allowed with patch {patch}: multiples of {patch}; change one of the two")
    if width < 4 or width % 4 or width % heads:
        raise ValueError(f"width is {width}; allowed with {heads} heads: multiples of 4 and of {heads}")
    if not given["mlp_ratio"] * width >= 1.0:
        raise ValueError(f"mlp_ratio is {given['mlp_ratio']}; allowed: at least 1 / width (the paper's is 4)")
    if given["rope"] and width // heads % 4:
        raise ValueError(
            f"rope is true, and heads are {width // heads} wide; allowed: multiples of 4; change width or heads, or set rope: false"
        )
    if given["frequencies"] not in ("published", "diffusers"):
        raise ValueError(f"frequencies is {given['frequencies']!r}; allowed: published, diffusers")
    if given["base_width"] < 0:
        raise ValueError(f"base_width is {given['base_width']}; allowed: >= 1, or 0 for weights as published")


def initialise(net: DiT, base_width: int) -> None:
    """The published initial weights, or at another width than base_width those of muP.

    Published are Xavier's for matrices, 0.02 for what tells time and class, and zero for what makes a block and the output start
    as nothing. Xavier's spread of a hidden matrix falls as 1 / sqrt(width), as muP wants; but it falls for the matrices that read
    the input, too, and 0.02 does not fall for the one hidden matrix of the time. With a base width both are as at that width.

    Args:
        net: a DiT.
        base_width: 0: as published.

    Source: Peebles & Xie 2023 (2212.09748), section 3.2; Yang et al. 2022 (2203.03466), table 3.
    """
    width = net.embed.out_features
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    time = net.condition
    nn.init.normal_(time.time_in.weight, std=0.02)
    nn.init.normal_(time.time_out.weight, std=0.02 * math.sqrt(base_width / width if base_width else 1.0))
    if time.label is not None:
        nn.init.normal_(time.label.weight, std=0.02)
    if base_width:
        inputs = [net.embed]
        if net.text_tokens is not None and net.text_pool is not None:
            inputs += [net.text_tokens.proj_in, net.text_pool.proj]
        for layer in inputs:
            bound = math.sqrt(6.0 / (layer.in_features + base_width))
            nn.init.uniform_(layer.weight, -bound, bound)
    for layer in net.layers:
        assert isinstance(layer, Layer)
        zeroed(layer.modulation)
        if layer.cross is not None:
            zeroed(layer.cross.out)
    zeroed(net.modulation)
    zeroed(net.head)

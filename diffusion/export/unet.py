"""Our UNet as a UNet2DModel of diffusers.

A UNet2DModel has a skip from every layer, ours one per block. So it gets a further resnet per level on the way down and two on the way up,
which hand on what they are given: their last convolution is zero.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.blocks import Block, SelfAttention, Up
from ..backbones.unet import UNet
from .resnets import Native, Resnets, put, uniform
from .told import Told, absorb

__all__ = ["common", "told_weights", "unet_native"]

_KNOWN = {
    "channels", "size", "num_classes", "width", "multipliers", "blocks", "attention", "head_width", "dropout", "time_scale", "out_channels",
    "augment_features", "groups", "time_features", "dims",
}  # fmt: skip


def unet_native(net: UNet, told: Told, out_channels: int) -> Native:
    """A UNet2DModel that gives the same numbers.

    Args:
        net: ours.
        told: how the number that it is told follows from a timestep.
        out_channels: of the output, the first ones of ours.

    Raises:
        ValueError: for a network that UNet2DModel can't be: several numbers of groups, frequencies that are not there, channels that fall.
    """
    config, at = common(net, _KNOWN), "backbone.init_args"
    widths: list[int] = config["block_out_channels"]
    if any(a > b for a, b in itertools.pairwise(widths)):
        raise ValueError(
            f"{at}.multipliers is {net.config['multipliers']}; allowed for a UNet2DModel: no level with fewer channels than the one before"
        )
    blocks, count = int(str(net.config["blocks"])), len(widths)
    config |= {"layers_per_block": blocks + 1, "out_channels": out_channels}
    weights = told_weights(net, told, widths[0])
    put(weights, "conv_in", net.stem)
    put(weights, "conv_norm_out", net.norm)
    for name, value in net.head.state_dict().items():
        weights[f"conv_out.{name}"] = value[:out_channels].detach().float().cpu().clone()
    made = Resnets(weights, net.modulation, net.widths)
    attends = ["Attn" in kind for kind in config["down_block_types"]]
    level = number = 0
    for layer in net.down:
        if isinstance(layer, Block):
            made.block(f"down_blocks.{level}", number, layer)
            number += 1
        else:
            put(weights, f"down_blocks.{level}.downsamplers.0.conv", layer)
            level, number = level + 1, 0
    for level in range(count):
        made.idle(f"down_blocks.{level}", blocks, widths[level], widths[level], attends[level])
    first, second = net.middle
    assert isinstance(first, Block)
    assert isinstance(second, Block)
    _middle(made, first, second)
    level, number = count - 1, 1
    for layer in net.up:
        here = f"up_blocks.{count - 1 - level}"
        if isinstance(layer, Block):
            made.block(here, number, layer)
            number += 1
        elif isinstance(layer, Up):
            to = f"{here}.upsamplers.0.conv"
            put(weights, to, layer.conv)
            for name in ("weight", "bias"):  # zeros in the channels that ours does not have
                weights[f"{to}.{name}"] = _filled(weights[f"{to}.{name}"], widths[level])
            level, number = level - 1, 1
    for level in range(count):
        here = f"up_blocks.{count - 1 - level}"
        above, below = widths[min(level + 1, count - 1)], widths[max(level - 1, 0)]
        made.idle(here, 0, above + widths[level], widths[level], attends[level])
        made.idle(here, blocks + 1, widths[level] + below, widths[level], attends[level])
    ours, theirs = 2 * blocks, 2 * blocks + 3
    note = (
        f"UNet2DModel has a skip from every layer, this UNet one per block: of its {theirs} resnets per level {theirs - ours} hand on what "
        "they are given, so it gives the same numbers more slowly (an ADM has the very layers of UNet2DModel)"
    )
    return Native("UNet2DModel", "unet", config, weights, [note])


def _middle(made: Resnets, first: Block, second: Block) -> None:
    """Resnet, attention where there is one, resnet."""
    made.block("mid_block", 0, first)
    made.block("mid_block", 1, second)


def _filled(value: Tensor, channels: int) -> Tensor:
    return torch.cat([value, torch.zeros(channels - len(value), *value.shape[1:])])


def common(net: Any, known: set[str]) -> dict[str, Any]:
    """The config of a UNet2DModel but for its layers per block and output, with what it can't be refused.

    Args:
        net: a UNet of ours.
        known: keys of its config that are read.

    Raises:
        ValueError: naming the key.
    """
    ours, at = net.config, "backbone.init_args"
    if further := sorted(set(ours) - known):
        raise ValueError(
            f"{at}.{further[0]} is {ours[further[0]]!r}, which UNet2DModel has not; allowed: a network without it, trained as such"
        )
    if ours.get("dims", 2) != 2:
        raise ValueError(f"{at}.dims is {ours['dims']}; allowed for a UNet2DModel: 2")
    norms = (m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm))
    widths = [int(ours["width"] * m) for m in ours["multipliers"]]
    groups = uniform(norms, f"{at}.groups (of the norms)", f"train with groups: {_divisor(widths)}")
    heads = [m for m in net.modules() if isinstance(m, SelfAttention)]
    fix = f"train with head_width: {min(widths)}, or attention at fewer resolutions"
    head = uniform((m.qkv.in_channels // m.heads for m in heads), f"{at}.head_width (in effect)", fix)
    size, room = ours["size"], widths[0]
    attends = [size >> level in ours["attention"] for level in range(len(widths))]
    features = net.condition.features
    if room % features:
        raise ValueError(
            f"{at}.time_features is {ours.get('time_features')}, {features} numbers; allowed for a UNet2DModel, whose sinusoid has as many "
            f"numbers as its first level channels: a divisor of {room}; train with time_features: {room}"
        )
    return {
        "sample_size": size, "in_channels": ours["channels"], "time_embedding_type": "positional",
        "time_embedding_dim": net.condition.time_out.out_features, "freq_shift": 0, "flip_sin_to_cos": True,
        "down_block_types": ["AttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        "up_block_types": ["AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        "block_out_channels": widths, "dropout": ours["dropout"], "act_fn": "silu", "attention_head_dim": head or min(widths),
        "norm_num_groups": groups, "attn_norm_num_groups": groups, "norm_eps": 1e-5, "resnet_time_scale_shift": "scale_shift",
        "add_attention": attends[-1], "num_class_embeds": None if net.condition.label is None else net.condition.label.num_embeddings,
    }  # fmt: skip


def told_weights(net: Any, told: Told, room: int) -> dict[str, Tensor]:
    """What the network is told of time and class, as weights of a UNet2DModel."""
    weights: dict[str, Tensor] = {}
    put(weights, "time_embedding.linear_1", net.condition.time_in)
    weights["time_embedding.linear_1.weight"] = absorb(net.condition.time_in.weight, told, room)
    put(weights, "time_embedding.linear_2", net.condition.time_out)
    if net.condition.label is not None:
        put(weights, "class_embedding", net.condition.label)
    return weights


def _divisor(widths: list[int]) -> int:
    """A number of groups that divides all widths, with at least four channels in each where there are."""
    allowed = [g for g in range(1, 33) if not any(w % g for w in widths)]
    return max((g for g in allowed if min(widths) // g >= 4), default=allowed[0])

"""Our ADM as a UNet2DModel of diffusers, layer for layer."""

from __future__ import annotations

from ..backbones.adm import ADM
from ..backbones.adm_blocks import ADMBlock
from ..backbones.blocks import Up
from .resnets import Native, Resnets, put
from .told import Told
from .unet import common, told_weights

__all__ = ["adm_native"]

_KNOWN = {
    "channels", "size", "num_classes", "null_class", "width", "multipliers", "blocks", "attention", "head_width", "heads", "updown",
    "scale_shift", "dropout", "time_scale", "out_channels", "augment_features", "groups", "dims",
}  # fmt: skip


def adm_native(net: ADM, told: Told, out_channels: int) -> Native:
    """A UNet2DModel that gives the same numbers.

    Args:
        net: ours.
        told: how the number that it is told follows from a timestep.
        out_channels: of the output, the first ones of ours.

    Raises:
        ValueError: for a network that UNet2DModel can't be: several numbers of groups, or a first level of another
            width than the time's features.
    """
    config = common(net, _KNOWN)
    widths: list[int] = config["block_out_channels"]
    count, by_block = len(widths), net.config["updown"] == "block"
    if by_block:  # blocks without attention that resample by a resnet have names of their own
        config["downsample_type"] = config["upsample_type"] = "resnet"
        config["down_block_types"] = [
            k.replace("DownBlock2D", "ResnetDownsampleBlock2D") if k[0] == "D" else k
            for k in config["down_block_types"]
        ]
        config["up_block_types"] = [
            k.replace("UpBlock2D", "ResnetUpsampleBlock2D") if k[0] == "U" else k for k in config["up_block_types"]
        ]
    config |= {
        "layers_per_block": net.config["blocks"], "out_channels": out_channels, "add_attention": True,
        "resnet_time_scale_shift": "scale_shift" if net.scale_shift else "default",
    }  # fmt: skip
    weights = told_weights(net, told, widths[0])
    put(weights, "conv_in", net.stem)
    put(weights, "conv_norm_out", net.norm)
    for name, value in net.head.state_dict().items():
        weights[f"conv_out.{name}"] = value[:out_channels].detach().float().cpu().clone()
    made = Resnets(weights, net.modulation, net.widths)
    level = number = 0
    for layer in net.down:
        if isinstance(layer, ADMBlock) and layer.resample is None:
            made.block(f"down_blocks.{level}", number, layer)
            number += 1
            continue
        if isinstance(layer, ADMBlock):
            made.block(f"down_blocks.{level}", 0, layer, "downsamplers")
        else:
            put(weights, f"down_blocks.{level}.downsamplers.0.conv", layer)
        level, number = level + 1, 0
    for number, layer in enumerate(net.middle):
        assert isinstance(layer, ADMBlock)
        made.block("mid_block", number, layer)
    level = number = 0
    for layer in net.up:
        if isinstance(layer, ADMBlock) and layer.resample is None:
            made.block(f"up_blocks.{level}", number, layer)
            number += 1
            continue
        if isinstance(layer, ADMBlock):
            made.block(f"up_blocks.{level}", 0, layer, "upsamplers")
        elif isinstance(layer, Up):
            put(weights, f"up_blocks.{level}.upsamplers.0.conv", layer.conv)
        level, number = level + 1, 0
    assert level == count - 1
    return Native("UNet2DModel", "unet", config, weights)

"""ADM as its authors and as diffusers write it, independent of ours: names, shapes, and the way from one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shape:
    """A network; attends: by level."""

    width: int
    multipliers: tuple[float, ...]
    blocks: int
    attends: tuple[bool, ...]
    classes: int = 0
    out: int = 6
    updown: str = "block"
    scale_shift: bool = True

    @property
    def widths(self) -> list[int]:
        return [int(self.width * m) for m in self.multipliers]


PUBLISHED = {
    64: Shape(192, (1, 2, 3, 4), 3, (False, True, True, True), 1000),
    128: Shape(256, (1, 1, 2, 3, 4), 2, (False, False, True, True, True), 1000),
    256: Shape(256, (1, 1, 2, 2, 4, 4), 2, (False,) * 3 + (True,) * 3, 1000),
    512: Shape(256, (0.5, 1, 1, 2, 2, 4, 4), 2, (False,) * 4 + (True,) * 3, 1000),
}


def shapes(net: Shape) -> dict[str, tuple[int, ...]]:
    """Every weight in the authors' names."""
    told, found = 4 * net.width, {}

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = shape, shape[:1]

    def res(name: str, before: int, after: int) -> None:
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", (2 if net.scale_shift else 1) * after, told)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attention(name: str, width: int) -> None:
        layer(f"{name}.norm", width)
        layer(f"{name}.qkv", 3 * width, width, 1)
        layer(f"{name}.proj_out", width, width, 1)

    layer("time_embed.0", told, net.width)
    layer("time_embed.2", told, told)
    if net.classes:
        found["label_emb.weight"] = (net.classes, told)
    now = net.widths[0]
    layer("input_blocks.0.0", now, 3, 3, 3)
    skips, place = [now], 1
    for level, after in enumerate(net.widths):
        for _ in range(net.blocks):
            res(f"input_blocks.{place}.0", now, after)
            if net.attends[level]:
                attention(f"input_blocks.{place}.1", after)
            now, place = after, place + 1
            skips.append(now)
        if level < len(net.widths) - 1:
            if net.updown == "block":
                res(f"input_blocks.{place}.0", now, now)
            else:
                layer(f"input_blocks.{place}.0.op", now, now, 3, 3)
            skips.append(now)
            place += 1
    res("middle_block.0", now, now)
    attention("middle_block.1", now)
    res("middle_block.2", now, now)
    place = 0
    for level in reversed(range(len(net.widths))):
        for i in range(net.blocks + 1):
            res(f"output_blocks.{place}.0", now + skips.pop(), net.widths[level])
            now, last = net.widths[level], 1
            if net.attends[level]:
                attention(f"output_blocks.{place}.1", now)
                last = 2
            if level and i == net.blocks:
                if net.updown == "block":
                    res(f"output_blocks.{place}.{last}", now, now)
                else:
                    layer(f"output_blocks.{place}.{last}.conv", now, now, 3, 3)
            place += 1
    layer("out.0", now)
    layer("out.2", net.out, now, 3, 3)
    return found


def weights(net: Shape, seed: int = 0) -> dict[str, Tensor]:
    """Random weights, of a size at which every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, shape in shapes(net).items():
        fan = max(1, torch.Size(shape[1:]).numel())
        value = torch.randn(shape, generator=generator) * (fan**-0.5 if len(shape) > 1 else 0.2)
        found[name] = value + 1.0 if len(shape) == 1 and name.endswith("weight") else value  # of norms, about 1
    return found


def config(net: Shape, size: int, head_width: int) -> dict[str, object]:
    """Arguments of diffusers' UNet2DModel."""
    return {
        "sample_size": size, "in_channels": 3, "out_channels": net.out, "layers_per_block": net.blocks, "block_out_channels": net.widths,
        "down_block_types": ["AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" if net.updown == "block" else "DownBlock2D"
                             for a in net.attends],
        "up_block_types": ["AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" if net.updown == "block" else "UpBlock2D"
                           for a in reversed(net.attends)],
        "attention_head_dim": head_width, "resnet_time_scale_shift": "scale_shift" if net.scale_shift else "default",
        "downsample_type": "resnet" if net.updown == "block" else "conv",
        "upsample_type": "resnet" if net.updown == "block" else "conv", "num_class_embeds": net.classes or None,
        "norm_num_groups": 32, "attn_norm_num_groups": 32, "norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0,
    }  # fmt: skip


def _pairs(net: Shape) -> Iterator[tuple[str, str]]:
    """(authors' prefix, diffusers' prefix), of layers, and of residual blocks and attentions as wholes."""
    yield from (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))
    yield from (("label_emb", "class_embedding"), ("input_blocks.0.0", "conv_in"))
    levels, place = len(net.widths), 1
    down, up = ("", "") if net.updown == "block" else (".op", ".conv")
    for level in range(levels):
        for j in range(net.blocks):
            yield f"input_blocks.{place}.0", f"down_blocks.{level}.resnets.{j}"
            yield f"input_blocks.{place}.1", f"down_blocks.{level}.attentions.{j}"
            place += 1
        yield f"input_blocks.{place}.0{down}", f"down_blocks.{level}.downsamplers.0{'.conv' * bool(down)}"
        place += 1
    yield from (("middle_block.0", "mid_block.resnets.0"), ("middle_block.2", "mid_block.resnets.1"))
    yield "middle_block.1", "mid_block.attentions.0"
    place = 0
    for i, attends in enumerate(reversed(net.attends)):
        for j in range(net.blocks + 1):
            yield f"output_blocks.{place}.0", f"up_blocks.{i}.resnets.{j}"
            if attends:
                yield f"output_blocks.{place}.1", f"up_blocks.{i}.attentions.{j}"
            place += 1
        yield f"output_blocks.{place - 1}.{1 + attends}{up}", f"up_blocks.{i}.upsamplers.0{up}"
    yield from (("out.0", "conv_norm_out"), ("out.2", "conv_out"))


LAYERS = {
    "in_layers.0": "norm1", "in_layers.2": "conv1", "emb_layers.1": "time_emb_proj", "out_layers.0": "norm2", "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut", "norm": "group_norm", "proj_out": "to_out.0",
}  # fmt: skip


def to_diffusers(net: Shape, found: dict[str, Tensor], heads: dict[int, int] | None = None) -> dict[str, Tensor]:
    """The state dict of UNet2DModel, as diffusers' own conversion of consistency models renames it.

    Args:
        net: the network.
        found: its weights.
        heads: by width, where the rows of qkv are head by head; None: q of all heads, then k, then v.
    """
    prefixes, out = dict(_pairs(net)), {}
    for name, value in found.items():
        parts, kind = name.rsplit(".", 1)
        if parts in prefixes:
            out[f"{prefixes[parts]}.{kind}"] = value
            continue
        prefix = next(p for p in (parts.rsplit(".", 1)[0], parts.rsplit(".", 2)[0]) if p in prefixes)
        inner = parts.removeprefix(f"{prefix}.")
        if inner == "qkv":
            width = len(value) // 3
            if heads is not None:
                rows = value.unflatten(0, (heads[width], 3, width // heads[width])).transpose(0, 1)
                value = rows.flatten(0, 2)
            for which, part in zip("qkv", value.chunk(3), strict=True):
                out[f"{prefixes[prefix]}.to_{which}.{kind}"] = part.flatten(1) if kind == "weight" else part
        else:
            flat = inner == "proj_out" and kind == "weight"
            out[f"{prefixes[prefix]}.{LAYERS[inner]}.{kind}"] = value.flatten(1) if flat else value
    return out

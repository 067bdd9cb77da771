"""ADM and improved DDPM from the weights of their authors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ...schedules import Eps, Table
from ..backbones.adm import ADM
from ..backbones.adm_blocks import ADMBlock
from ..backbones.blocks import SelfAttention, Up
from ..clocks import EntryClock
from .adm_facts import ADMFacts, ADMShape, adm_facts
from .parts import Published

__all__ = ["adm_table", "is_adm", "read_adm"]

Parts = Iterator[tuple[str, str]]  # (their prefix, our prefix)


def is_adm(keys: Iterable[str]) -> bool:
    """Whether weights of these names are those of guided-diffusion or improved-diffusion."""
    return {"time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.1.qkv.weight", "out.2.weight"} <= set(keys)


def read_adm(weights: Mapping[str, Tensor], size: int | None = None, facts: ADMFacts | None = None) -> Published:
    """ADM or improved DDPM from the weights of its authors: the network from names and shapes, the forward process from what was published.

    Args:
        weights: of openai/guided-diffusion or openai/improved-diffusion; their files are pickles, which are made safetensors once.
        size: height and width that it was trained on, pixels; None: as published.
        facts: what weights do not say (heads, order of qkv, noise), for a network of a shape that was not published; None: as published.

    Raises:
        ValueError: for weights that are missing, unknown or of another shape, naming one; for a shape that was not published, without
            facts.

    Source: Dhariwal & Nichol 2021 (2105.05233); Nichol & Dhariwal 2021 (2102.09672).
    """
    shape, arguments = _shape(weights)
    known = facts or adm_facts(shape)
    if known is None:
        raise ValueError(
            f"the weights have multipliers {list(shape.multipliers)}, updown {shape.updown!r} and scale_shift {shape.scale_shift}, which "
            "no published network has; give facts=ADMFacts(...), since weights do not say its size, heads, noise and order of qkv"
        )
    size = known.size if size is None else size
    attends = arguments.pop("attends")
    assert isinstance(attends, list)
    resolutions = [size >> level for level, on in enumerate(attends) if on]
    with torch.device("meta"):
        net = ADM(
            **arguments, size=size, attention=resolutions, head_width=known.head_width, heads=known.heads, dropout=known.dropout,
            time_scale=1000 / known.steps if known.rescaled else 1.0,
        )  # fmt: skip
    net.load_state_dict(_translated(net, weights, known.interleaved), assign=True)
    return Published(
        net, adm_table(known.noise, known.steps), Eps(), EntryClock(known.steps), (net.channels, size, size), net.num_classes, False, False,
        known.name,
    )  # fmt: skip


def adm_table(noise: str, steps: int) -> Table:
    """The table of the authors: "linear" betas from 1e-4 to 0.02 times 1000 / steps, or the "cosine", whose betas end at 0.999.

    Source: Nichol & Dhariwal 2021 (2102.09672), eq. 17.
    """
    if noise == "linear":
        low, high = 0.1 / steps, 20.0 / steps
        return Table.from_betas(low + (high - low) * i / (steps - 1) for i in range(steps))

    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return Table.from_betas(min(1.0 - signal((i + 1) / steps) / signal(i / steps), 0.999) for i in range(steps))


def _shape(weights: Mapping[str, Tensor]) -> tuple[ADMShape, dict[str, Any]]:
    """What the weights say of the network, and the arguments of ADM that follow."""
    get = _getter(weights)
    channels, width = get("input_blocks.0.0.weight").shape[1], get("time_embed.0.weight").shape[1]
    if get("input_blocks.0.0.weight").ndim != 4:
        raise ValueError("input_blocks.0.0.weight is no convolution over two axes; allowed: networks on images")
    out = len(get("out.2.weight"))
    if channels == 6 == out:
        raise ValueError(
            "input_blocks.0.0.weight has 6 channels in: an upsampler, which reads a small picture beside x; it is not read here"
        )
    ups, block = {}, -1  # by block of the way up, where the last layer doubles the resolution
    while f"output_blocks.{block + 1}.0.in_layers.0.weight" in weights:
        block += 1
        for layer in (1, 2):
            if f"output_blocks.{block}.{layer}.in_layers.0.weight" in weights:
                ups[block] = "block"
            elif f"output_blocks.{block}.{layer}.conv.weight" in weights:
                ups[block] = "conv"
    levels = len(ups) + 1
    each, rest = divmod(block + 1, levels)
    if each < 2 or rest or len(set(ups.values())) > 1:
        raise ValueError(
            f"output_blocks has {block + 1} blocks, of which {list(ups)} double the resolution; allowed: as many per level, at least two"
        )
    firsts = [1 + level * each for level in range(levels)]  # of each level on the way down; the one before halves
    widths = [len(get(f"input_blocks.{i}.0.out_layers.3.weight")) for i in firsts]
    multipliers = tuple(int(m) if m.is_integer() else m for m in (w / width for w in widths))
    rows = len(get("input_blocks.1.0.emb_layers.1.weight"))
    classes = len(weights["label_emb.weight"]) if "label_emb.weight" in weights else 0
    updown = "conv" if "conv" in ups.values() else "block"
    shape = ADMShape(updown, multipliers, classes > 0, rows == 2 * widths[0])
    return shape, {
        "channels": channels, "num_classes": classes, "null_class": False, "width": width, "multipliers": multipliers, "blocks": each - 1,
        "attends": [f"input_blocks.{i}.1.qkv.weight" in weights for i in firsts], "updown": updown, "scale_shift": shape.scale_shift,
        "out_channels": out,
    }  # fmt: skip


def _getter(weights: Mapping[str, Tensor]) -> Callable[[str], Tensor]:
    def get(key: str) -> Tensor:
        if key not in weights:
            raise ValueError(f"{key} is missing among the weights")
        return weights[key]

    return get


def _translated(net: ADM, weights: Mapping[str, Tensor], interleaved: bool) -> dict[str, Tensor]:
    """The network's state dict, of all weights and of no others."""
    get, used = _getter(weights), set[str]()
    wanted = net.state_dict()

    def take(theirs: str, shape: tuple[int, ...]) -> Tensor:
        value = get(theirs)
        # attention's projections act along one axis of positions there, along two here
        flat = value.ndim == 3 and value.shape[2] == 1 and len(shape) == 4
        if tuple(value.shape) != (shape[:3] if flat else shape):
            raise ValueError(f"{theirs} has shape {tuple(value.shape)}; expected: {shape}")
        used.add(theirs)
        return value.reshape(shape).float().contiguous()

    state: dict[str, Tensor] = {}
    rows: list[tuple[Tensor, Tensor]] = []  # of every block: weight and bias between time and norm
    modules = dict(net.named_modules())
    for theirs, ours in _parts(net):
        module = modules[ours]
        if isinstance(module, ADMBlock):
            after = module.after * (2 if net.scale_shift else 1)
            emb = f"{theirs}.emb_layers.1"
            rows.append(
                (take(f"{emb}.weight", (after, wanted["modulation.weight"].shape[1])), take(f"{emb}.bias", (after,)))
            )
            continue
        for kind in ("weight", "bias"):
            key = f"{ours}.{kind}"
            if key not in wanted:  # a table of classes has no bias
                continue
            value = take(f"{theirs}.{kind}", tuple(wanted[key].shape))
            if interleaved and ours.endswith(".qkv"):
                attention = modules[ours.removesuffix(".qkv")]
                assert isinstance(attention, SelfAttention)
                value = rearrange(value, "(h s d) ... -> (s h d) ...", s=3, h=attention.heads).contiguous()
            state[key] = value
    halves = 2 if net.scale_shift else 1
    for kind, parts in zip(("weight", "bias"), zip(*rows, strict=True), strict=True):
        # there each block's scale and shift together, here all scales, then all shifts
        split = [part.chunk(halves) for part in parts]
        state[f"modulation.{kind}"] = torch.cat([s[half] for half in range(halves) for s in split])
    if unknown := sorted(set(weights) - used):
        raise ValueError(f"{unknown[0]} is among the weights, and ADM has no place for it ({len(unknown)} such names)")
    return state


def _parts(net: ADM) -> Parts:
    """Their prefix and ours of all layers, and of blocks, whose own rows of the modulation are theirs."""
    yield from (("time_embed.0", "condition.time_in"), ("time_embed.2", "condition.time_out"))
    if net.condition.label is not None:
        yield "label_emb", "condition.label"
    yield "input_blocks.0.0", "stem"
    for i, layer in enumerate(net.down):
        yield from _layer(layer, f"input_blocks.{i + 1}", f"down.{i}", 0)
    yield from _layer(net.middle[0], "middle_block", "middle.0", 0)
    yield from _layer(net.middle[1], "middle_block", "middle.1", 2)
    block, place = -1, 0
    for i, layer in enumerate(net.up):
        doubles = isinstance(layer, Up) or (isinstance(layer, ADMBlock) and layer.resample == "up")
        block, place = (block, place) if doubles else (block + 1, 0)
        yield from _layer(layer, f"output_blocks.{block}", f"up.{i}", place)
        place = 2 if isinstance(layer, ADMBlock) and isinstance(layer.attention, SelfAttention) else 1
    yield from (("out.0", "norm"), ("out.2", "head"))


def _layer(layer: nn.Module, theirs: str, ours: str, place: int) -> Parts:
    at = f"{theirs}.{place}"
    if not isinstance(layer, ADMBlock):
        yield (f"{at}.conv", f"{ours}.conv") if isinstance(layer, Up) else (f"{at}.op", ours)
        return
    yield at, ours
    yield from ((f"{at}.in_layers.0", f"{ours}.norm_in"), (f"{at}.in_layers.2", f"{ours}.conv_in"))
    yield from ((f"{at}.out_layers.0", f"{ours}.norm_out"), (f"{at}.out_layers.3", f"{ours}.conv_out"))
    if not isinstance(layer.skip, nn.Identity):
        yield f"{at}.skip_connection", f"{ours}.skip"
    if isinstance(layer.attention, SelfAttention):
        beside = f"{theirs}.{place + 1}"
        yield from ((f"{beside}.norm", f"{ours}.attention.norm"), (f"{beside}.qkv", f"{ours}.attention.qkv"))
        yield f"{beside}.proj_out", f"{ours}.attention.out"

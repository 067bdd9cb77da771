"""Original checkpoints of DiT: their names, and what they were trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from ...schedules import BetaTable, Eps
from ..backbones.dit import DiT
from ..clocks import EntryClock
from .parts import Published

__all__ = ["is_dit", "read_dit"]

_HEADS = {384: ("S", 6), 768: ("B", 12), 1024: ("L", 16), 1152: ("XL", 16)}
_OUTSIDE = {
    "embed": "x_embedder.proj",
    "condition.time_in": "t_embedder.mlp.0",
    "condition.time_out": "t_embedder.mlp.2",
    "modulation": "final_layer.adaLN_modulation.1",
    "head": "final_layer.linear",
}
_WITHIN = {
    "modulation": "adaLN_modulation.1",
    "qkv": "attn.qkv",
    "out": "attn.proj",
    "mlp_in": "mlp.fc1",
    "mlp_out": "mlp.fc2",
}
_LABELS, _POSITIONS = "y_embedder.embedding_table.weight", "pos_embed"
_STEPS = 1000


def _names(depth: int) -> dict[str, str]:
    """{our name: theirs} of every tensor."""
    layers = _OUTSIDE | {f"layers.{i}.{a}": f"blocks.{i}.{b}" for i in range(depth) for a, b in _WITHIN.items()}
    both = {f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")}
    return both | {"condition.label.weight": _LABELS, "positions": _POSITIONS}


def is_dit(keys: Iterable[str]) -> bool:
    """Whether a state dict with these names is a DiT's in its authors' form.

    SiT has the same names, and nothing in a file tells the two apart.

    Args:
        keys: the names of its tensors.
    """
    return set(_names(1).values()) <= set(keys)


def read_dit(weights: Mapping[str, Tensor], heads: int | None = None) -> Published:
    """The network, schedule, row and clock of an original DiT checkpoint; its sizes are read from the tensors' shapes.

    The files that Meta offers are pickles. One line makes of them what is read here, and runs no code of theirs: `save_file` of
    safetensors.torch on what `torch.load` reads with map_location="cpu" and weights_only=True.

    Args:
        weights: its state dict, of any floating dtype; copied, in float32. Its table of classes ends with the null class.
        heads: attention heads, which no shape tells; None: as published for its width (384, 768, 1024, 1152).

    Raises:
        ValueError: naming the key of a tensor that is missing, unexpected or of a wrong shape; for a width that was not published, without
            heads.

    Source: Peebles & Xie 2023 (2212.09748), appendix A, and https://github.com/facebookresearch/DiT.
    """
    depth = 1 + max(
        (int(k.split(".")[1]) for k in weights if k.startswith("blocks.") and k.split(".")[1].isdigit()), default=-1
    )
    names = _names(depth)
    for key in names.values():
        if key not in weights:
            raise ValueError(f"the checkpoint has no {key!r}, so it is no DiT in its authors' form (blocks: {depth})")
    if strange := sorted(set(weights) - set(names.values())):
        raise ValueError(f"the checkpoint has {strange[0]!r}, which a DiT does not have ({len(strange)} such keys)")

    width, channels, patch, _ = _shape(weights, "x_embedder.proj.weight", 4)
    tokens, rows = _shape(weights, _POSITIONS, 3)[1], _shape(weights, _LABELS, 2)[0]
    hidden, out = _shape(weights, "blocks.0.mlp.fc1.weight", 2)[0], _shape(weights, "final_layer.linear.weight", 2)[0]
    grid = math.isqrt(tokens)
    if grid**2 != tokens:
        raise ValueError(f"{_POSITIONS} has {tokens} places; allowed: a square number, those of a square image")
    if out not in (channels * patch**2, 2 * channels * patch**2):
        raise ValueError(
            f"final_layer.linear.weight has {out} rows; allowed: {channels * patch**2}, or twice that for a learned variance"
        )
    if heads is None and width not in _HEADS:
        raise ValueError(
            f"x_embedder.proj.weight is {width} wide, which is none of the published widths {', '.join(map(str, _HEADS))}; give heads"
        )
    size, known = _HEADS.get(width, (f"{width}", 0))
    ratio = hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width
    with torch.device("meta"):
        net = DiT(
            channels, grid * patch, rows - 1, patch, width, depth, heads or known, ratio, out_channels=out // patch**2
        )
    wanted, state = net.state_dict(), {}
    for ours, theirs in names.items():
        tensor = weights[theirs].to(torch.float32, copy=True)
        fits = tensor.squeeze(0) if ours == "positions" else tensor.flatten(1) if ours == "embed.weight" else tensor
        if fits.shape != wanted[ours].shape:
            raise ValueError(
                f"{theirs} has shape {tuple(tensor.shape)}, and a DiT of width {width} and {depth} blocks has {tuple(wanted[ours].shape)}"
            )
        state[ours] = fits
    net.load_state_dict(state, assign=True)
    shape = (channels, grid * patch, grid * patch)
    return Published(
        net.eval(),
        BetaTable("linear", _STEPS),
        Eps(),
        EntryClock(_STEPS),
        shape,
        rows - 1,
        True,
        True,
        f"DiT-{size}/{patch}",
    )


def _shape(weights: Mapping[str, Tensor], key: str, dims: int) -> tuple[int, ...]:
    shape = tuple(weights[key].shape)
    if len(shape) != dims or 0 in shape:
        raise ValueError(f"{key} has shape {shape}; allowed: {dims} dimensions, none of them empty")
    return shape

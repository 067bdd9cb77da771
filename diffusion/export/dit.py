"""Our DiT as a DiTTransformer2DModel of diffusers."""

from __future__ import annotations

import torch
from torch import Tensor

from ..backbones.dit import DiT
from ..backbones.dit_layer import Layer
from .resnets import Native, put
from .told import Told, absorb

__all__ = ["dit_native"]

_KNOWN = {
    "channels", "size", "num_classes", "patch", "width", "depth", "heads", "mlp_ratio", "time_scale", "out_channels", "augment_features",
    "frequencies", "base_width",
}  # fmt: skip


def dit_native(net: DiT, told: Told, out_channels: int, classes: int | None = None) -> Native:
    """A DiTTransformer2DModel that gives the same numbers.

    Args:
        net: ours.
        told: how the number that it is told follows from a timestep.
        out_channels: of the output, the first ones of ours.
        classes: rows of the label's table before that of the null class; None: as many as there are. DiTPipeline takes 1000 for the null
            class, so its networks have 1000.

    Raises:
        ValueError: for a network that DiTTransformer2DModel can't be, naming the key.
    """
    config, at = net.config, "backbone.init_args"
    if further := sorted(set(config) - _KNOWN):
        raise ValueError(
            f"{at}.{further[0]} is {config[further[0]]!r}, which DiTTransformer2DModel has not; allowed: a network trained without it"
        )
    if not net.condition.reach_lowest:
        raise ValueError(
            f"{at}.frequencies is published; allowed for a DiTTransformer2DModel, whose lowest one is a little lower: diffusers; train "
            "with frequencies: diffusers"
        )
    width, heads, depth = (int(str(config[key])) for key in ("width", "heads", "depth"))
    if float(str(config["mlp_ratio"])) != 4.0:
        raise ValueError(f"{at}.mlp_ratio is {config['mlp_ratio']}; allowed for a DiTTransformer2DModel: 4")
    patch, channels, rows = net.patch, net.channels, net.num_classes if classes is None else classes
    native = {
        "num_attention_heads": heads, "attention_head_dim": width // heads, "in_channels": channels, "out_channels": out_channels,
        "num_layers": depth, "sample_size": net.size, "patch_size": patch, "num_embeds_ada_norm": max(rows, 1), "norm_eps": 1e-6,
        "activation_fn": "gelu-approximate", "attention_bias": True, "norm_type": "ada_norm_zero", "norm_elementwise_affine": False,
    }  # fmt: skip
    weights: dict[str, Tensor] = {}
    weights["pos_embed.proj.weight"] = (
        net.embed.weight.detach().float().cpu().view(width, channels, patch, patch).clone()
    )
    weights["pos_embed.proj.bias"] = net.embed.bias.detach().float().cpu().clone()
    table = torch.zeros(max(rows, 1) + 1, width)
    if net.condition.label is not None:
        learned = net.condition.label.weight.detach().float().cpu()
        table[: net.num_classes], table[-1] = learned[:-1], learned[-1]
    time_in = absorb(net.condition.time_in.weight, told, net.condition.features, reach_lowest=True)
    for number, layer in enumerate(net.layers):
        assert isinstance(layer, Layer)
        _layer(weights, f"transformer_blocks.{number}", layer)
        emb = f"transformer_blocks.{number}.norm1.emb"  # every block has a copy there
        put(weights, f"{emb}.timestep_embedder.linear_1", net.condition.time_in)
        weights[f"{emb}.timestep_embedder.linear_1.weight"] = time_in.clone()
        put(weights, f"{emb}.timestep_embedder.linear_2", net.condition.time_out)
        weights[f"{emb}.class_embedder.embedding_table.weight"] = table.clone()
    put(weights, "proj_out_1", net.modulation)
    for name, value in net.head.state_dict().items():  # (row, column, channel) of a patch
        by_channel = value.detach().float().cpu().unflatten(0, (patch * patch, -1))[:, :out_channels]
        weights[f"proj_out_2.{name}"] = by_channel.flatten(0, 1).clone()
    notes = ["every block of a DiTTransformer2DModel has the embedders of time and class, so the file is larger"]
    return Native("DiTTransformer2DModel", "transformer", native, weights, notes)


def _layer(weights: dict[str, Tensor], at: str, layer: Layer) -> None:
    put(weights, f"{at}.norm1.linear", layer.modulation)
    for name, value in layer.qkv.state_dict().items():
        for part, rows in zip("qkv", value.detach().float().cpu().chunk(3), strict=True):
            weights[f"{at}.attn1.to_{part}.{name}"] = rows.clone()
    put(weights, f"{at}.attn1.to_out.0", layer.out)
    put(weights, f"{at}.ff.net.0.proj", layer.mlp_in)
    put(weights, f"{at}.ff.net.2", layer.mlp_out)

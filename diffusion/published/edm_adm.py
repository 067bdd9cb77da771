"""EDM's DhariwalUNet as our ADM: the same function, but for how its weights are laid out."""

from __future__ import annotations

import torch

from ..backbones.adm import ADM
from ..backbones.adm_blocks import ADMBlock
from ..backbones.blocks import SelfAttention
from ..backbones.resample import BOX
from .edm_weights import EDMWeights, block_names, split_heads

__all__ = ["read_dhariwal"]

_BLOCK = {
    "norm_in": "norm0", "conv_in": "conv0", "norm_out": "norm1", "conv_out": "conv1", "skip": "skip", "attention.norm": "norm2",
    "attention.qkv": "qkv", "attention.out": "proj",
}  # fmt: skip
HEAD_WIDTH = 64


def read_dhariwal(weights: EDMWeights) -> ADM:
    """The network with its weights; dropout, of which they say nothing, is 0.

    What each block makes of the condition is a part of one layer of ours; classes, a layer on one-hot rows, are a table. There is no null
    class.

    Raises:
        ValueError: for a key that is missing, not known, or of another shape than the others say, naming it.
    """
    if "map_augment.weight" in weights:
        raise ValueError(
            "model.map_augment.weight is there, so the network was told of augmentations before its first layer, which ADM is not; "
            "allowed: a DhariwalUNet that was trained without, as those of ImageNet-64"
        )
    sizes, blocks = weights.levels()
    first = f"{sizes[0]}x{sizes[0]}"
    features, width = weights.shape("map_layer0.weight", 2)
    outputs = [weights.shape(f"enc.{s}x{s}_block0.conv1.weight", 4)[0] for s in sizes]
    with torch.device("meta"):
        net = ADM(
            weights.shape(f"enc.{first}_conv.weight", 4)[1], sizes[0],
            weights.shape("map_label.weight", 2)[1] if "map_label.weight" in weights else 0, False, width,
            [after // width if after % width == 0 else after / width for after in outputs], blocks,
            [s for s in sizes if f"enc.{s}x{s}_block0.qkv.weight" in weights], HEAD_WIDTH,
            out_channels=weights.shape("out_conv.weight", 4)[0], groups=None,
        )  # fmt: skip
    names = dict(block_names(sizes, blocks))
    outside = {
        "stem": f"enc.{first}_conv", "norm": "out_norm", "head": "out_conv", "condition.time_in": "map_layer0",
        "condition.time_out": "map_layer1",
    }  # fmt: skip
    known = outside | {f"{a}.{c}": f"{b}.{d}" for a, b in names.items() for c, d in _BLOCK.items()}
    state = {}
    for key, wanted in net.state_dict().items():
        module, _, kind = key.rpartition(".")
        if module == "modulation":
            continue
        if module == "condition.label":
            state[key] = weights.take("map_label.weight", wanted.shape[::-1]).T.contiguous()
            continue
        state[key] = weights.take(f"{known[module]}.{kind}", wanted.shape)
        if module.endswith(".qkv"):
            attention = net.get_submodule(module.removesuffix(".qkv"))
            assert isinstance(attention, SelfAttention)
            state[key] = split_heads(state[key], attention.heads)
    modulated = [(name, net.get_submodule(name)) for name in names]
    for kind, axes in (("weight", (features,)), ("bias", ())):
        made = [
            weights.take(f"{names[name]}.affine.{kind}", (2 * block.after, *axes)).chunk(2)
            for name, block in modulated
            if isinstance(block, ADMBlock)
        ]
        state[f"modulation.{kind}"] = torch.cat([scale for scale, _ in made] + [shift for _, shift in made])
    weights.finish(BOX)
    net.load_state_dict(state, assign=True)
    return net

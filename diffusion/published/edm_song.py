"""EDM's SongUNet, DDPM++ or NCSN++, as our DDPMPP."""

from __future__ import annotations

import torch

from ..backbones.ddpmpp import DDPMPP
from ..backbones.resample import BOX
from ..backbones.song_blocks import BINOMIAL
from .edm_weights import EDMWeights, block_names, split_heads

__all__ = ["read_song"]

_BLOCK = {
    "norm_in": "norm0", "conv_in": "conv0", "shift": "affine", "norm_out": "norm1", "conv_out": "conv1", "skip": "skip",
    "attention.norm": "norm2", "attention.qkv": "qkv", "attention.out": "proj",
}  # fmt: skip
_ROOT = {"time_in": "map_layer0", "time_out": "map_layer1", "label": "map_label", "told": "map_augment"}


def read_song(weights: EDMWeights) -> DDPMPP:
    """The network with its weights; dropout, of which they say nothing, is 0.

    Raises:
        ValueError: for a key that is missing, not known, or of another shape than the others say, naming it.
    """
    sizes, blocks = weights.levels()
    first = f"{sizes[0]}x{sizes[0]}"
    width, channels, _, _ = weights.shape(f"enc.{first}_conv.weight", 4)
    multipliers = []
    for s in sizes:
        after = weights.shape(f"enc.{s}x{s}_block0.conv1.weight", 4)[0]
        if after % width:
            raise ValueError(
                f"model.enc.{s}x{s}_block0.conv1.weight has {after} outputs; allowed: multiples of {width}"
            )
        multipliers.append(after // width)
    ncsn = "map_noise.freqs" in weights
    with torch.device("meta"):
        net = DDPMPP(
            channels, sizes[0], weights.shape("map_label.weight", 2)[1] if "map_label.weight" in weights else 0, width, multipliers, blocks,
            [s for s in sizes if f"enc.{s}x{s}_block0.qkv.weight" in weights],
            out_channels=weights.shape(f"dec.{first}_aux_conv.weight", 4)[0],
            augment_features=weights.shape("map_augment.weight", 2)[1] if "map_augment.weight" in weights else 0,
            architecture="ncsnpp" if ncsn else "ddpmpp",
        )  # fmt: skip
    outside = _ROOT | {"stem": f"enc.{first}_conv", "norm": f"dec.{first}_aux_norm", "head": f"dec.{first}_aux_conv"}
    outside |= {f"pyramid.{i}": f"enc.{s}x{s}_aux_residual" for i, s in enumerate(sizes[1:])}
    within = {f"{a}.{c}": f"{b}.{d}" for a, b in block_names(sizes, blocks) for c, d in _BLOCK.items()}
    state = {}
    for key, wanted in net.state_dict().items():
        module, _, kind = key.rpartition(".")
        theirs = "map_noise.freqs" if module == "waves" else f"{(outside | within)[module]}.{kind}"
        value = weights.take(theirs, wanted.shape)
        state[key] = split_heads(value, 1) if module.endswith(".qkv") else value
    weights.finish(BINOMIAL if ncsn else BOX)
    net.load_state_dict(state, assign=True)
    return net

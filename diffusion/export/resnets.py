"""The parts of our UNets as the weights of diffusers' parts: residual blocks, attention, and blocks that do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones.adm_blocks import ADMBlock
from ..backbones.blocks import Block, SelfAttention

__all__ = ["Native", "Resnets", "put", "uniform"]


@dataclass
class Native:
    """A network in the words of diffusers.

    kind: name of its class. folder: of the component. config: arguments of the class. weights: its state dict. notes: what is worth saying.
    """

    kind: str
    folder: str
    config: dict[str, Any]
    weights: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


def put(weights: dict[str, Tensor], at: str, layer: nn.Module) -> None:
    """A layer's weight and bias under another name."""
    for name, value in layer.state_dict().items():
        weights[f"{at}.{name}"] = value.detach().float().cpu().clone()


def uniform(values: Iterator[int], key: str, fix: str) -> int | None:
    """The one value that all of some have, None for none.

    Raises:
        ValueError: for several.
    """
    found = sorted(set(values))
    if len(found) > 1:
        raise ValueError(f"{key} differs within the network: {found}; allowed: one for all, as in UNet2DModel; {fix}")
    return found[0] if found else None


class Resnets:
    """Writes blocks into a state dict of a UNet2DModel.

    Args:
        weights: to write to.
        modulation: our one linear layer of all blocks, the scales first, where there are, then the shifts.
        widths: channels of the blocks in the order in which that layer knows them.
    """

    def __init__(self, weights: dict[str, Tensor], modulation: nn.Linear, widths: list[int]) -> None:
        self.weights, self.embedding = weights, modulation.in_features
        parts = modulation.out_features // sum(widths)  # 2: scales and shifts; 1: shifts
        weight, bias = modulation.weight.detach().float().cpu(), modulation.bias.detach().float().cpu()
        by_block = [part.split(widths) for value in (weight, bias) for part in value.chunk(parts)]
        self._parts, self._rows = parts, iter(zip(*by_block, strict=True))

    def block(self, at: str, number: int, block: Block | ADMBlock, place: str = "resnets") -> None:
        """A block of ours, with its attention, as the resnet of a number at a place such as "down_blocks.0"."""
        to, w = f"{at}.{place}.{number}", self.weights
        rows = next(self._rows)
        put(w, f"{to}.norm1", block.norm_in)
        put(w, f"{to}.conv1", block.conv_in)
        w[f"{to}.time_emb_proj.weight"] = torch.cat(rows[: self._parts])
        w[f"{to}.time_emb_proj.bias"] = torch.cat(rows[self._parts :])
        if block.norm_out.affine:
            put(w, f"{to}.norm2", block.norm_out)
        else:
            self._ones(f"{to}.norm2", block.after)  # its scale and shift are the conditioning's
        put(w, f"{to}.conv2", block.conv_out)
        if not isinstance(block.skip, nn.Identity):
            put(w, f"{to}.conv_shortcut", block.skip)
        if isinstance(block.attention, SelfAttention):
            self.attention(f"{at}.attentions.{number}", block.attention)

    def attention(self, to: str, layer: SelfAttention) -> None:
        """An attention of ours, whose 1x1 convolutions are linear layers there."""
        w = self.weights
        put(w, f"{to}.group_norm", layer.norm)
        for name, value in layer.qkv.state_dict().items():
            for part, rows in zip("qkv", _linear(value).chunk(3), strict=True):
                w[f"{to}.to_{part}.{name}"] = rows.clone()
        for name, value in layer.out.state_dict().items():
            w[f"{to}.to_out.0.{name}"] = _linear(value).clone()

    def idle(self, at: str, number: int, before: int, after: int, attends: bool) -> None:
        """A resnet, and an attention, that hand on the first `after` of `before` channels."""
        to, w = f"{at}.resnets.{number}", self.weights
        self._ones(f"{to}.norm1", before)
        self._zeros(f"{to}.conv1", after, before, 3, 3)
        self._zeros(f"{to}.time_emb_proj", 2 * after, self.embedding)
        self._ones(f"{to}.norm2", after)
        self._zeros(f"{to}.conv2", after, after, 3, 3)
        if before != after:
            w[f"{to}.conv_shortcut.weight"] = torch.eye(after, before)[:, :, None, None].clone()
            w[f"{to}.conv_shortcut.bias"] = torch.zeros(after)
        if attends:
            to = f"{at}.attentions.{number}"
            self._ones(f"{to}.group_norm", after)
            for name in ("to_q", "to_k", "to_v", "to_out.0"):
                self._zeros(f"{to}.{name}", after, after)

    def _ones(self, at: str, channels: int) -> None:
        self.weights[f"{at}.weight"], self.weights[f"{at}.bias"] = torch.ones(channels), torch.zeros(channels)

    def _zeros(self, at: str, *shape: int) -> None:
        self.weights[f"{at}.weight"], self.weights[f"{at}.bias"] = torch.zeros(*shape), torch.zeros(shape[0])


def _linear(value: Tensor) -> Tensor:
    """Weight or bias of a convolution of one position, as those of a linear layer."""
    return value.detach().float().cpu().flatten(1) if value.ndim > 1 else value.detach().float().cpu()

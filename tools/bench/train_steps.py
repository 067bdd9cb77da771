"""Training steps: the usual one of other libraries, and ours, on one batch that does not change."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...diffusion.backbones.attention_probe import set_attention
from ...diffusion.clipping import clip
from ...diffusion.compiling import compile_forward
from ...diffusion.ema import Averages
from ...diffusion.memory_format import set_memory_format
from .peer_networks import Network

__all__ = ["COMPILED", "VARIANTS", "Step", "Variant", "awake", "our_step", "usual_step"]

_CLIP, _DECAY, _RATE = 1.0, 0.999, 1e-4


class Variant(NamedTuple):
    """How our step is made: in bf16 or float32, in which memory format, what of it is compiled."""

    half: bool = False
    last: bool = False
    compile: Literal["blocks", "whole"] | None = None


VARIANTS = {
    "fp32": Variant(), "fp32 channels_last": Variant(last=True), "bf16": Variant(half=True),
    "bf16 channels_last": Variant(half=True, last=True),
}  # fmt: skip
COMPILED = {
    "fp32 compiled": Variant(compile="whole"), "bf16 compiled": Variant(half=True, compile="whole"),
}  # fmt: skip


class Step:
    """A step in two halves.

    Args:
        gradients: finds them.
        move: clips them, moves the weights and their average.

    Attributes: moving, seconds of the second half at every call, of this process's CPU.
    """

    def __init__(self, gradients: Callable[[], None], move: Callable[[], None]) -> None:
        self._gradients, self._move = gradients, move
        self.moving: list[float] = []

    @torch.enable_grad()
    def __call__(self) -> None:
        self._gradients()
        began = time.process_time()
        self._move()
        self.moving.append(time.process_time() - began)


def _batch(count: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    x, time_, wanted = torch.randn(count, 3, 32, 32), torch.rand(count) * 999, torch.randn(count, 3, 32, 32)
    return x.to(device), time_.to(device), wanted.to(device)


def usual_step(network: Network, count: int, device: str = "cpu") -> Step:
    """The step of a peer's examples: float32, AdamW and clipping in loops, the average one parameter at a time as in EMAModel.

    Args:
        network: moved to the device, and trained.
        count: samples per step, >= 1.
        device: cpu or cuda.
    """
    module, (x, time_, wanted) = network.module.to(device).train(), _batch(count, device)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, foreach=False, fused=False)
    shadow = [p.detach().clone() for p in parameters]

    def gradients() -> None:
        loss = F.mse_loss(network.call(module, x, time_), wanted)
        optimizer.zero_grad()
        loss.backward()

    def move() -> None:
        nn.utils.clip_grad_norm_(parameters, _CLIP, foreach=False)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(shadow, parameters, strict=True):
                average.sub_((1 - _DECAY) * (average - parameter))

    return Step(gradients, move)


def our_step(network: nn.Module, count: int, variant: Variant, device: str = "cpu") -> Step:
    """Our step: attention `auto`, AdamW fused, the average and clipping over all tensors at once, as `train` does them.

    Args:
        network: moved to the device, changed as the variant says, and trained.
        count: samples per step, >= 1.
        variant: how it is made.
        device: cpu or cuda.
    """
    module, (x, time_, wanted) = network.to(device).train(), _batch(count, device)
    set_attention(module, "auto")
    if variant.last:
        set_memory_format(module, "channels_last")
    if variant.compile is not None:
        compile_forward(module, variant.compile)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, fused=True)
    averages, made = Averages(module, _DECAY), [0]

    def gradients() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=variant.half):
            loss = F.mse_loss(module(x, time_), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()

    def move() -> None:
        clip(parameters, _CLIP)
        optimizer.step()
        made[0] += 1
        averages.update(module, made[0])

    return Step(gradients, move)


def awake(network: nn.Module) -> nn.Module:
    """A network whose layers that start at zero do not: gradients of zero may be found quickly."""
    for parameter in network.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.02)
    return network

"""What a training step costs, ours beside that of other libraries, with networks of as many parameters."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...diffusion.compiling import compile_forward
from ...diffusion.ema import Ema
from ...diffusion.memory_format import set_memory_format
from .peer_networks import OURS, PEERS, Network, about
from .peers import installed
from .timing import ratios

__all__ = ["VARIANTS", "measure_training"]

_CLIP, _DECAY, _RATE = 1.0, 0.999, 1e-4


class Variant(NamedTuple):
    """How our step is made: bf16 or float32, in which memory format, compiled or not."""

    half: bool = False
    last: bool = False
    compile: bool = False


VARIANTS = {
    "fp32": Variant(), "fp32 channels_last": Variant(last=True), "bf16": Variant(half=True),
    "bf16 channels_last": Variant(half=True, last=True),
}  # fmt: skip
COMPILED = {"fp32 compiled": Variant(compile=True), "bf16 compiled": Variant(half=True, compile=True)}


def _batch(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(count, 3, 32, 32), torch.rand(count) * 999, torch.randn(count, 3, 32, 32)


def base_step(network: Network, count: int) -> Callable[[], None]:
    """The step of a peer's examples: float32, AdamW and clipping in loops, the average one parameter at a time as in EMAModel."""
    module, (x, time, wanted) = network.module.train(), _batch(count)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, foreach=False, fused=False)
    shadow = [p.detach().clone() for p in parameters]

    @torch.enable_grad()
    def step() -> None:
        loss = F.mse_loss(network.call(module, x, time), wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _CLIP, foreach=False)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(shadow, parameters, strict=True):
                average.sub_((1 - _DECAY) * (average - parameter))

    return step


def our_step(network: nn.Module, count: int, variant: Variant) -> Callable[[], None]:
    """Our step: attention `auto`, AdamW fused, the average and clipping over all tensors at once, as `train` does them."""
    module, (x, time, wanted) = network.train(), _batch(count)
    if variant.last:
        set_memory_format(module, "channels_last")
    if variant.compile:
        compile_forward(module, "blocks")
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, fused=True)
    average, made = Ema(module, _DECAY), [0]

    @torch.enable_grad()
    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.half):
            loss = F.mse_loss(module(x, time), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, _CLIP)
        optimizer.step()
        made[0] += 1
        average.update(module, made[0])

    return step


def measure_training(
    against: Sequence[str], count: int, rounds: int, compiled: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """Time steps of every network and variant in one interleaved run.

    Args:
        against: peers, by name.
        count: images per step.
        rounds: of all steps, each in turn; the median counts.
        compiled: whether to measure ours compiled, too, which takes a minute or more before the first step.
        say: takes a line.

    Returns:
        networks: parameters and operations of each. speed: of each variant of ours, images per second over those of the peer's base.
    """
    variants = {**VARIANTS, **(COMPILED if compiled else {})}
    networks: dict[str, dict[str, float]] = {}
    runs: dict[str, Callable[[], None]] = {}
    found: dict[str, Any] = {"networks": networks, "speed": {}, "absent": [], "batch": count}
    for peer in against:
        package, make = PEERS[peer]
        if not installed(package):
            found["absent"].append(peer)
            say(f"{peer}: absent ({package} can't be imported here, or what it imports)")
            continue
        torch.manual_seed(0)
        theirs = make()
        networks[peer] = about(theirs)
        runs[peer] = base_step(theirs, count)
        for kind, ours in OURS[peer].items():
            network = _awake(ours())
            networks[f"{kind} of the size of {peer}"] = about(Network(network, lambda module, x, time: module(x, time)))
            for name, variant in variants.items():
                if not (kind == "DiT" and variant.last):  # it has no convolutions
                    runs[f"{peer}/{kind}/{name}"] = our_step(copy.deepcopy(network), count, variant)
    for name, counts in networks.items():
        say(f"{name}: {counts['parameters']:,.0f} parameters, {counts['mflop']:,.0f} MFLOP per image forward")
    if not runs:
        return found
    times = ratios(runs, rounds, cuda=False)
    for name, taken in times.items():
        if "/" in name:
            peer = name.split("/")[0]
            found["speed"][name] = round(times[peer] / taken, 3)
            say(f"{name}: {found['speed'][name]:.2f} times the images per second of the base of {peer}")
    return found


def _awake(network: nn.Module) -> nn.Module:
    """A network whose layers that start at zero do not: gradients of zero may be found quickly."""
    for parameter in network.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.02)
    return network

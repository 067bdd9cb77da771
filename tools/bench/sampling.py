"""What a sampling call costs, network included: ours beside the pipeline of diffusers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ...diffusion import Denoiser, TimeClock
from ...diffusion.memory_format import set_memory_format
from ...diffusion.model import Model
from ...samplers import DDIM
from ...schedules import Eps, LinearBeta
from .peer_networks import OURS, PEERS, Network, TheirUNet, about
from .peers import installed, pipeline_call
from .timing import ratios

__all__ = ["measure_sampling"]

_BATCHES = (1, 16)


def _model(backbone: nn.Module) -> Model:
    return Model(Denoiser(backbone, LinearBeta(), Eps(), TimeClock()), (3, 32, 32), sampler=DDIM())


def measure_sampling(steps: int, rounds: int, small: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Time the pipeline of diffusers, ours with the very same network, and ours with our UNet of as many parameters, interleaved.

    Args:
        steps: of DDIM, all deterministic.
        rounds: of all calls, each in turn; the median counts.
        small: one batch of 1 only, to see whether it runs.
        say: takes a line.

    Returns:
        networks, as in training; speed: by batch, images per second over those of the pipeline.
    """
    package, make = PEERS["diffusers"]
    found: dict[str, Any] = {"networks": {}, "speed": {}, "absent": [], "steps": steps}
    if not installed(package):
        found["absent"].append("diffusers")
        say("diffusers: absent")
        return found
    torch.manual_seed(0)
    theirs = make()
    ours, last = OURS["diffusers"]["UNet"](), OURS["diffusers"]["UNet"]()
    set_memory_format(last, "channels_last")
    found["networks"]["diffusers"] = about(theirs)
    found["networks"]["UNet"] = about(Network(ours, lambda module, x, time: module(x, time)))
    models = {
        "its own network": _model(TheirUNet(theirs.module)),
        "our UNet": _model(ours),
        "our UNet, channels_last": _model(last),
    }
    for count in _BATCHES[:1] if small else _BATCHES:
        runs: dict[str, Callable[[], object]] = {"diffusers": pipeline_call(theirs.module, count, steps)}
        for name, model in models.items():
            runs[name] = lambda model=model, count=count: model.sample(range(count), steps=steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pictures of weights that were never trained are none, and it would say so
            times = ratios(runs, rounds, cuda=False)
        speed = {name: round(1 / taken, 3) for name, taken in times.items() if name != "diffusers"}
        found["speed"][str(count)] = speed
        for name, value in speed.items():
            say(f"batch {count}, {name}: {value:.2f} times the images per second of the pipeline")
    return found

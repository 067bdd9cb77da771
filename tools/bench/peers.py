"""The same methods elsewhere, each in its own loop, where the library is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...schedules.rows import Row, V
from .floors import Network

__all__ = ["diffusers_walk", "installed", "k_diffusion_walk", "pipeline_call"]


def installed(name: str) -> bool:
    """Whether a library can be imported."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def diffusers_walk(
    name: str, arguments: Mapping[str, object], row: Row, steps: int, device: str
) -> Callable[[Network, Tensor], Tensor]:
    """A scheduler of diffusers in the loop of its documentation; `set_timesteps` belongs to every trajectory."""
    import diffusers

    cls = getattr(diffusers, name)
    kind = "v_prediction" if isinstance(row, V) else "sample"
    if name == "PNDMScheduler" and kind == "sample":
        kind = "epsilon"  # it knows no other
    scheduler = cls(**{"prediction_type": kind, **arguments})

    def walk(network: Network, x: Tensor) -> Tensor:
        scheduler.set_timesteps(steps, device=device)
        for t in scheduler.timesteps:
            x = scheduler.step(network(scheduler.scale_model_input(x, t)), t, x).prev_sample
        return x

    return walk


def k_diffusion_walk(name: str, ratios: Tensor) -> Callable[[Network, Tensor], Tensor]:
    """A sampler of k-diffusion along sigma / alpha; its model is given one sigma per sample and answers with the data."""
    sample = getattr(importlib.import_module("k_diffusion.sampling"), name)
    return lambda network, x: sample(lambda x, sigma: network(x), x, ratios, disable=True)


def pipeline_call(unet: nn.Module, count: int, steps: int) -> Callable[[], object]:
    """A call of diffusers' DDIM pipeline for `count` pictures, without noise, as arrays."""
    import diffusers

    library: Any = diffusers  # its names are found when they are asked for
    pipeline = library.DDIMPipeline(unet.eval(), library.DDIMScheduler())
    pipeline.set_progress_bar_config(disable=True)

    def call() -> object:
        generator = torch.Generator().manual_seed(0)
        return pipeline(count, generator, num_inference_steps=steps, eta=0.0, output_type="np", return_dict=False)

    return call

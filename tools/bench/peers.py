"""The same methods elsewhere, each in its own loop, where the library is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from torch import Tensor

from ...schedules.rows import Row, V
from .floors import Network

__all__ = ["diffusers_walk", "installed", "k_diffusion_walk"]


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

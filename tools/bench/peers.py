"""The same methods elsewhere, each in its own loop, where the library is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ...schedules.rows import Row, V
from .floors import Network
from .stand_in import import_peer

__all__ = ["azula_walk", "diffusers_walk", "installed", "k_diffusion_walk", "pipeline_call"]

# what each is called when it is imported, where that is another name
_MODULES = {
    "k-diffusion": "k_diffusion",
    "lucidrains": "denoising_diffusion_pytorch",
    "torch-fidelity": "torch_fidelity",
}


def installed(name: str) -> bool:
    """Whether a library is there, by its name as a peer or as a module."""
    return importlib.util.find_spec(_MODULES.get(name, name)) is not None


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
    sample = getattr(import_peer("k_diffusion.sampling"), name)
    return lambda network, x: sample(lambda x, sigma: network(x), x, ratios, disable=True)


def azula_walk(name: str, arguments: Mapping[str, object], ratios: Tensor) -> Callable[[Network, Tensor], Tensor]:
    """A sampler of azula along sigma / alpha: time is sigma, and the denoiser's posterior has the network's answer for its mean."""
    sample: Any = import_peer("azula.sample")

    class Denoiser:
        network: Network | None = None

        def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return torch.ones_like(t), t

        def __call__(self, x: Tensor, t: Tensor) -> Any:
            assert self.network is not None
            return SimpleNamespace(mean=self.network(x))

    denoiser = Denoiser()
    along = type(name, (getattr(sample, name),), {"timesteps": property(lambda self: ratios)})
    sampler = along(denoiser, steps=len(ratios) - 1, silent=True, **arguments)

    def walk(network: Network, x: Tensor) -> Tensor:
        denoiser.network = network
        return sampler(x)

    return walk


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

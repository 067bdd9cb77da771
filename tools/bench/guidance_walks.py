"""A walk under a rule, by our rules and by the guiders of diffusers, with any network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...diffusion.branches import branches_of
from ...guidance import Field
from ...samplers import DDIM, tabulate, trajectory
from ...samplers.state import Denoise
from ...schedules import Level, Prediction, V
from .guidance_cases import CASES, COUNT, STEPS, edm_levels
from .sample_networks import model_of
from .stand_in import import_peer

__all__ = ["GUIDERS", "Walk", "our_walk", "their_walk"]

Walk = Callable[[Tensor], None]

# a rule of ours -> (class, arguments); of the interval the steps 16 to 22 of 32, as shares of them
GUIDERS: dict[str, tuple[str, dict[str, object]]] = {
    "CFG": ("ClassifierFreeGuidance", {"guidance_scale": 3.0}),
    "Interval(CFG)": ("ClassifierFreeGuidance", {"guidance_scale": 3.0, "start": 16 / STEPS, "stop": 23 / STEPS}),
    "Rescale": ("ClassifierFreeGuidance", {"guidance_scale": 3.0, "guidance_rescale": 0.7}),
    "APG": ("AdaptiveProjectedGuidance", {
        "guidance_scale": 3.0, "adaptive_projected_guidance_momentum": -0.75, "adaptive_projected_guidance_rescale": 2.5, "eta": 0.0,
    }),
}  # fmt: skip


def our_walk(name: str, backbone: nn.Module, weak: nn.Module) -> Walk:
    """A walk of DDIM under a rule, in our loop as `Model.sample` runs it; takes x (COUNT, C, H, W).

    Args:
        name: of CASES.
        backbone: the network, of v, of ten classes.
        weak: the weaker one, likewise.
    """
    case, model = CASES[name], model_of(backbone, row=V())
    also = {"second": [1] * COUNT} if case.second else None
    conditions, slots, rule = model.conditions([0] * COUNT, COUNT, also), torch.arange(COUNT), case.make()
    weaker = model_of(weak, row=V()).denoiser if case.weak else None
    branches = branches_of(model.denoiser, weaker, conditions, slots)
    return _walk(lambda: Field(branches, rule, COUNT, slots, COUNT))


def their_walk(name: str, backbone: nn.Module) -> Walk:
    """The same under a guider of diffusers, asked as in the loop of its modular pipelines: each branch by itself.

    Args:
        name: of GUIDERS.
        backbone: as in `our_walk`.
    """
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # it says each time that guiders are experimental
    cls, arguments = GUIDERS[name]
    make: Any = getattr(import_peer("diffusers.guiders"), cls)
    given = {"labels": (torch.zeros(COUNT, dtype=torch.int64), torch.full((COUNT,), 10))}

    def denoise() -> Denoise:
        guider, made = make(**arguments), [0]

        def ask(x: Tensor, level: Level) -> Prediction:
            time = torch.full((COUNT,), 1000 * float(level.t))
            guider.set_state(step=made[0], num_inference_steps=STEPS, timestep=time)
            batches = guider.prepare_inputs(given)
            for batch in batches:
                guider.prepare_models(backbone)
                batch.noise_pred = backbone(x, time, batch.labels)
                guider.cleanup_models(backbone)
            made[0] += 1
            return Prediction(x, level, guider(batches)[0], V())

        return ask

    return _walk(denoise)


def _walk(denoise: Callable[[], Denoise]) -> Walk:
    levels = edm_levels()
    table = tabulate(DDIM(), levels)

    def walk(x: Tensor) -> None:
        for step in trajectory(DDIM(), denoise(), levels, x, table=table, predictions=False):
            del step  # as `fill` does

    return walk

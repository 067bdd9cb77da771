"""What a folder of diffusers can't say of a model of ours, for sfumato.yaml beside it."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...schedules.parts import describe
from ..model import Model

if TYPE_CHECKING:
    from .folder import Exported

__all__ = ["whole_process"]

FORMAT = 1


def whole_process(model: Model, done: Exported) -> dict[str, Any]:
    """The whole process of a model, plain data: what it was trained on, how it is sampled, and what was measured.

    Args:
        model: ours, with the averaged weights.
        done: what was written.
    """
    denoiser = model.denoiser
    average = {k: v for k, v in model.source.items() if k in ("run", "checkpoint", "ema")}
    return {
        "format": FORMAT,
        "sfumato": version("sfumato"),
        **average,
        "shape": list(model.shape),
        "latents": model.latents,
        "num_classes": model.num_classes,
        "null_class": model.null_class if model.num_classes else False,
        "null_label": (done.native.config.get("num_embeds_ada_norm") or model.num_classes)
        if model.num_classes
        else None,  # the number that a network here is told for no class
        "backbone": describe(denoiser.backbone),
        "schedule": describe(denoiser.schedule),
        "row": describe(denoiser.row),
        "clock": describe(denoiser.clock),
        "input_std": denoiser.input_std,  # of the data, where the row scales by it
        "sampler": describe(model.sampler),
        "grid": describe(model.grid),
        "sampling_steps": model.steps,
        "guidance": describe(model.guidance),
        "diffusers": {
            "network": done.native.kind,
            "scheduler": done.process.kind,
            "pipeline": done.pipeline,
            "variant": done.variant,
            "equals": {"sampler": describe(done.process.sampler), "grid": describe(done.process.grid)},
            "timestep": {"sign": done.process.told.sign, "shift": done.process.told.shift},
        },
        "parity": {name or "plain": _plain(asdict(parity)) for name, parity in done.parity.items()},
        "notes": done.notes,
    }


def _plain(value: Any) -> Any:
    """Tuples as lists, which YAML knows."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value

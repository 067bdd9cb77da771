"""A DiT on latents with the VAE that makes pictures of them, as diffusers' DiTPipeline runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...guidance import CFG, Plain
from ...samplers import DDPM
from ..checkpoint import newest
from ..model import Model
from ..vae import Vae
from .parity import PICTURES, Parity, apart, sample_ours
from .process import Process

__all__ = ["CLASSES", "compare_pictures", "guided_by", "in_pipeline", "vae_of_run"]

CLASSES = 1000
"""Of every DiTPipeline, which tells this number for no class, whatever the network."""
_SCALE = 4.0  # its guidance_scale unless told otherwise
_STEPS = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler")


def in_pipeline(model: Model, process: Process, vae: Vae) -> Process:
    """The process as DiTPipeline runs it: from unit noise, unscaled, without the learned variance, and guided by itself.

    Args:
        model: ours, of a DiT.
        process: as its scheduler alone says it.
        vae: of its latents.

    Raises:
        ValueError: for what DiTPipeline can't say, with what it can and what to do.
    """
    alone = "; leave vae out, and network and scheduler are written by themselves"
    if model.num_classes > CLASSES:
        raise ValueError(
            f"num_classes is {model.num_classes}; allowed with vae: at most {CLASSES}, since DiTPipeline tells {CLASSES} for no class, "
            f"whatever the network{alone}"
        )
    if model.num_classes and not model.null_class:
        raise ValueError(
            f"label_dropout is 0, so there is no null class, and DiTPipeline guides away from it unless told guidance_scale=1{alone}, or "
            "train with label_dropout above 0"
        )
    if process.kind not in _STEPS:
        why = (
            "steps from what was scaled for the network"
            if process.scaled
            else "asks every scheduler to scale its input"
        )
        raise ValueError(
            f"schedule, row and clock are those of a {process.kind}, which DiTPipeline can't run: it begins with unit noise and {why}. "
            f"Allowed with vae: row Eps, X0 or V on a variance-preserving schedule with clock TimeClock or EntryClock{alone}"
        )
    name, factor = vae.describe()["class"], vae.scaling.flatten()
    if name != "AutoencoderKL":
        raise ValueError(f"vae is of {name}; allowed for DiTPipeline: AutoencoderKL{alone}")
    if bool(vae.shift.any()) or len(factor) != 1:
        raise ValueError(
            f"the VAE's latents are shifted by {vae.shift.tolist()} and scaled by {factor.tolist()}; allowed for DiTPipeline, which "
            f"divides by scaling_factor alone: shift 0 and one scaling{alone}"
        )
    notes = [*process.notes]
    if not guided_by(model):
        notes.append(f"the run's own guidance {model.guidance} has no counterpart there: DiTPipeline knows CFG above 1")
    if not process.variance:
        return replace(process, notes=notes)
    notes.append("DiTPipeline leaves a learned variance out: DDPM steps with the small one there")
    config = {**process.config, "variance_type": "fixed_small"}
    return replace(process, config=config, sampler=DDPM("small"), same=False, variance=False, notes=notes)


def guided_by(model: Model) -> float:
    """The guidance_scale that is a model's own guidance; 0 where it is none."""
    if isinstance(model.guidance, Plain):
        return 1.0
    scale = model.guidance.scale if isinstance(model.guidance, CFG) and model.guidance.against == "ref" else None
    return float(scale) if isinstance(scale, float | int) and scale >= 1 else 0.0


def vae_of_run(run: str | Path, folder: str | Path) -> tuple[Vae, list[str]]:
    """The VAE of a run's latents, and what to say of it.

    Args:
        run: the run folder.
        folder: of diffusers.

    Raises:
        ValueError: for a folder that holds no VAE, and latents that were scaled otherwise than it says; `load` compares the hashes.
    """
    vae = Vae(folder)
    found = newest(Path(run) / "checkpoints")
    said = found.state.get("latents") if found is not None and isinstance(found.state, Mapping) else None
    if not isinstance(said, Mapping):
        return vae, ["the run does not say which VAE made its latents, so that the one here was not compared with it"]
    for key, own in (("shift", vae.shift), ("scaling", vae.scaling)):
        trained = torch.as_tensor(said[key], dtype=torch.float32).flatten()
        if not torch.equal(*torch.broadcast_tensors(trained, own.flatten())):
            raise ValueError(
                f"the latents of the run were made with {key} {trained.tolist()}, and the VAE says {own.tolist()}; allowed: the same; give "
                "the VAE that made them, or encode again"
            )
    return vae, []


@torch.no_grad()
def compare_pictures(model: Model, pipe: Any, process: Process, parity: Parity) -> Parity:
    """What was measured, with how far the pictures of the loaded pipeline are from ours, from the same noise, unguided and guided.

    Args:
        model: ours, with its VAE.
        pipe: the DiTPipeline.
        process: that its scheduler was written from.
        parity: of its network and scheduler alone.
    """
    if process.sampler.draws or model.vae is None:
        return parity
    labels = torch.arange(PICTURES) % max(model.num_classes, 1)
    own = labels if model.num_classes else None
    # the pipeline begins with unit noise, and so do we here
    start = float(process.grid(model.denoiser.schedule, model.steps)[0].sigma)
    noise = torch.randn((PICTURES, *model.shape), generator=_generator()) / start
    scale = max(guided_by(model), 1.0)
    scale = scale if scale > 1 else _SCALE

    def gap(guidance_scale: float) -> tuple[float, float]:
        theirs: Tensor = pipe(
            class_labels=labels.tolist(), guidance_scale=guidance_scale, num_inference_steps=model.steps, generator=_generator(),
            output_type="pt",
        ).images  # fmt: skip
        ours = sample_ours(model, process.sampler, process.grid, noise, own, guidance_scale)
        assert model.vae is not None
        return apart(model.vae.decode(ours), theirs.float() * 2 - 1)

    return replace(parity, pictures=gap(1.0), guided=gap(scale), scale=scale)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)

"""Whether what holds on a CPU holds on a GPU: resumed runs, bits of the noise, sampling that waits for nothing, memory that runs out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...diffusion import Denoiser, train
from ...diffusion.checkpoint import at_step
from ...diffusion.interrupt import Told
from ...diffusion.run import Run
from ...samplers import DDIM, DDPM, DPMSolverPP, Heun, trajectory
from ...schedules import Level, Prediction, Trailing
from ...schedules.noise import Stream, gaussian, permutation, uniform
from .gpu_runs import NETWORKS, SMALL, recipe_of, running

__all__ = ["noise", "out_of_memory", "resume", "syncs"]


def resume(small: bool) -> dict[str, Any]:
    """How far a run that was stopped in between is from one that was not; 0: not at all. And the same run twice, beside it."""
    network = next(iter((SMALL if small else NETWORKS).values()))
    recipe = recipe_of((*network[:3], 8), small, {"save_every": 3, "keep": 2})
    with tempfile.TemporaryDirectory() as place:
        one, two, again = (Path(place) / name for name in ("one", "two", "again"))
        train(recipe, one, progress=False)
        train(recipe, again, progress=False)
        run = Run(recipe, two, Told())
        try:
            run.claim(False, False)
            run.backbone.train()
            while run.step < 3:
                run.make()
            run.save()
        finally:
            run.close()
        train(recipe, two, resume=True, progress=False)
        ends = [at_step(folder / "checkpoints", recipe.steps).tensors("model") for folder in (one, two, again)]
    resumed, repeated = (max(float((ends[0][k] - other[k]).abs().max()) for k in other) for other in ends[1:])
    return {"resumed": resumed, "repeated": repeated, "exact": resumed == 0.0}


def noise(device: torch.device) -> dict[str, Any]:
    """Whether what is drawn there has the bits that it has on the host."""
    seeds = torch.arange(64, dtype=torch.int64)
    there = seeds.to(device)
    pairs = {
        "gaussian": (gaussian(seeds, 1, 2, 0, (4, 32, 32)), gaussian(there, 1, 2, 0, (4, 32, 32))),
        "uniform": (uniform(seeds, 5, 6, 4096, Stream.SAMPLE), uniform(there, 5, 6, 4096, Stream.SAMPLE)),
        "order": (permutation(3, 1, 4096), permutation(3, 1, 4096)),
    }
    return {name: torch.equal(a, b.cpu()) for name, (a, b) in pairs.items()}


def syncs(device: torch.device, small: bool) -> dict[str, Any]:
    """Of each sampler, whether its loop ran without the host waiting for the device; PyTorch raises where it would."""
    network = next(iter((SMALL if small else NETWORKS).values()))
    recipe = recipe_of(network, small)
    denoiser = Denoiser(recipe.backbone.to(device).eval(), recipe.schedule, recipe.row, recipe.clock)
    seeds = torch.arange(4, dtype=torch.int64, device=device)
    levels, shape = Trailing()(recipe.schedule, 4), recipe.data.shape
    x, labels, found = gaussian(seeds, 0, -1, 0, shape), seeds % 1000, {}

    def ask(x: Tensor, level: Level) -> Prediction:
        return denoiser(x, level, {"labels": labels})

    for sampler in (DDIM(), DDPM(), Heun(), DPMSolverPP()):
        walk = trajectory(sampler, ask, levels, x, lambda step, draw: gaussian(seeds, 0, step, draw, shape))
        try:
            with torch.no_grad(), _no_syncs(device):
                for _ in walk:
                    pass
            found[type(sampler).__name__] = True
        except RuntimeError as error:
            found[type(sampler).__name__] = str(error).splitlines()[0]
    return found


@contextmanager
def _no_syncs(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def out_of_memory(small: bool) -> dict[str, Any]:
    """The micro-batch that is found where the whole batch does not fit, and a step with it.

    On a GPU memory really runs out, of a small share that is allowed; elsewhere the network says that it did.
    """
    network = next(iter((SMALL if small else NETWORKS).values()))
    cuda, batch = torch.cuda.is_available(), 64 if small else 4096
    recipe = recipe_of((*network[:3], batch), small, {"compile": None, "micro_batch": "auto"})
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.25)
    else:
        recipe.backbone.register_forward_pre_hook(_refuse_more_than_eight)
    try:
        with running(recipe) as run:
            loss = float(run.update(0).loss)
            return {
                "batch": batch,
                "micro_batch": run.plan.micro_batch,
                "loss": loss,
                "found": run.plan.micro_batch < batch,
            }
    finally:
        if cuda:
            torch.cuda.set_per_process_memory_fraction(1.0)


def _refuse_more_than_eight(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
    if len(given[0]) > 8:
        raise torch.OutOfMemoryError("more than eight samples")

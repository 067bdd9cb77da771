"""Whether what holds on a CPU holds on a GPU: resumed runs, bits of the noise, memory that runs out."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ...diffusion import train
from ...diffusion.checkpoint import at_step
from ...diffusion.interrupt import Told
from ...diffusion.run import Run
from ...schedules.noise import Stream, gaussian, uniform
from .gpu_runs import recipe_of, running
from .sheet import Cell, exact

__all__ = ["noise", "out_of_memory", "resume"]

_NETWORK = "DiT-B/2"


def resume(small: bool) -> dict[str, Cell]:
    """How far a run that was stopped in between is from one that was not, by its weights. And the same run twice, beside it."""
    recipe = recipe_of(_NETWORK, small, {"batch": 8, "steps": 6, "save_every": 3, "keep": 2})
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
    return {"resumed apart": Cell(resumed, unit=""), "repeated apart": Cell(repeated, unit="")}


def noise(device: torch.device) -> dict[str, Cell]:
    """How many of the numbers that are drawn there have other bits than those of the host."""
    seeds = torch.arange(64, dtype=torch.int64)
    there = seeds.to(device)
    pairs = {
        "gaussian": (gaussian(seeds, 1, 2, 0, (4, 32, 32)), gaussian(there, 1, 2, 0, (4, 32, 32))),
        "uniform": (uniform(seeds, 5, 6, 4096, Stream.SAMPLE), uniform(there, 5, 6, 4096, Stream.SAMPLE)),
    }
    return {f"{name}, other bits": exact(int((a != b.cpu()).sum())) for name, (a, b) in pairs.items()}


def out_of_memory(small: bool) -> dict[str, Cell]:
    """The micro-batch that is found where the whole batch does not fit, and the loss of a step with it.

    On a GPU memory really runs out, of a small share that is allowed; elsewhere the network says that it did.
    """
    cuda, batch = torch.cuda.is_available(), 64 if small else 4096
    recipe = recipe_of(_NETWORK, small, {"batch": batch, "compile": None, "micro_batch": "auto"})
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.25)
    else:
        recipe.backbone.register_forward_pre_hook(_refuse_more_than_eight)
    try:
        with running(recipe) as run:
            loss = float(run.update(0).loss)
            return {
                "batch": Cell(batch, unit=""), "micro-batch": Cell(run.plan.micro_batch, unit=""), "loss": Cell(loss, unit=""),
                "made": exact(math.isfinite(loss) and run.plan.micro_batch < batch),
            }  # fmt: skip
    finally:
        if cuda:
            torch.cuda.set_per_process_memory_fraction(1.0)


def _refuse_more_than_eight(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
    if len(given[0]) > 8:
        raise torch.OutOfMemoryError("more than eight samples")

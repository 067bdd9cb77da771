"""Training on a GPU: images per second, the share of what the GPU can do, and memory beside what was predicted."""

from __future__ import annotations

from statistics import median
from typing import Any

import torch

from ...diffusion.plan import plan_batches
from ...diffusion.report import memory_of
from ...diffusion.throughput import peak_memory
from .gpu_clock import flops, matmul_rate, rounds, spread
from .gpu_runs import TRAINED, recipe_of, running
from .sheet import Cell

__all__ = ["training"]

_WARM = 3  # steps, of which the first compiles


def training(name: str, small: bool) -> dict[str, Cell]:
    """What training a network takes, with all that a step of a run does: reading, augmenting, loss, gradients, AdamW and average.

    The micro-batch is the largest that fits, found by the run itself, halving from the batch. The rate of a product of matrices is
    measured beside it; forward and backward are three times the operations of forward.

    Args:
        name: of TRAINED.
        small: a tiny network.
    """
    recipe = recipe_of(name, small)
    count = 2 if small else 12
    operations = 3 * flops(lambda: TRAINED[name].make(small), recipe.data.shape)
    with running(recipe) as run:
        device = run.processes.device
        for _ in range(_WARM):
            run.make()
        if device.type == "cuda":  # probing for the micro-batch, and compiling, took memory of their own
            torch.cuda.reset_peak_memory_stats(device)
        seconds = rounds(device, run.make, count)
        memory, plan = peak_memory(device) or 0.0, run.plan
    predicted = sum(memory_of(recipe, plan_batches(recipe.batch, 1, plan.micro_batch))) / 2**20
    rates = matmul_rate(device, 256 if small else 8192, count)
    return {
        "images per second": spread([recipe.batch / s for s in seconds], "img/s"), **_shares(operations * recipe.batch, seconds, rates),
        "batch": Cell(recipe.batch, unit=""), "micro-batch": Cell(plan.micro_batch, unit=""), "memory": Cell(memory, unit="MiB"),
        "predicted": Cell(predicted, unit="MiB"), "off the prediction": Cell(abs(memory / predicted - 1.0), unit="%"),
    }  # fmt: skip


def _shares(operations: float, seconds: list[float], rates: list[float]) -> dict[str, Any]:
    best = median(rates)
    return {
        "MFU": spread([operations / s / best for s in seconds], "%"),
        "matrix product": spread([rate / 1e12 for rate in rates], "TFLOP/s"),
    }

"""How many samples fit into memory at once."""

from __future__ import annotations

import gc

import torch
from torch import Tensor

from .launch import Processes
from .plan import BatchPlan, plan_batches
from .recipe import Recipe
from .still import buffers_of, put_back
from .trial import trial_loss

__all__ = ["fit_micro_batch", "out_of_memory"]


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is no more memory.

    Args:
        error: of any kind; torch's allocator on the host raises a RuntimeError.
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "alloc" in str(error) and "memory" in str(error)


def fit_micro_batch(recipe: Recipe, processes: Processes) -> BatchPlan:
    """The plan of the largest micro-batch that fits, halving from what the recipe allows; the global batch stays as it is.

    Where the recipe says "auto", and on a device of its own memory, a forward and a backward pass are tried, with room for what the
    optimizer will keep. All processes take the smallest that any of them found.

    Args:
        recipe: what is trained; its backbone is on the device.
        processes: who trains.

    Raises:
        MemoryError: when not even one sample fits.
    """
    limit = recipe.micro_batch if isinstance(recipe.micro_batch, int) else None
    plan = plan_batches(recipe.batch, processes.count, limit)
    # in parts, a process that runs out of memory would leave the others waiting
    if processes.split or (recipe.micro_batch != "auto" and processes.device.type == "cpu"):
        return plan
    size = plan.micro_batch
    while size and not _fits(recipe, size, processes):
        size //= 2
    size = -int(processes.largest(torch.tensor(-float(size), device=processes.device)))
    if size == 0:
        raise MemoryError(
            "not even one sample fits into memory; choose a smaller backbone, gradient_checkpointing: true, or precision: bf16"
        )
    return plan if size == plan.micro_batch else plan_batches(recipe.batch, processes.count, size)


def _fits(recipe: Recipe, count: int, processes: Processes) -> bool:
    device, module = processes.device, recipe.backbone
    reserved: list[Tensor] = []
    kept = buffers_of([module])  # running statistics are not to remember what was only tried
    try:
        for parameter in module.parameters():  # an optimizer's two moments, and the average
            reserved += [torch.empty_like(parameter) for _ in range(3)]
        # as it is written: no size that is only tried is compiled
        with processes.micro_batch([], last=True), torch.compiler.set_stance("force_eager"):
            loss = trial_loss(recipe, count, device)
        loss.backward()
        return True
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return False
    finally:
        module.zero_grad(set_to_none=True)
        put_back(kept)
        reserved.clear()
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()

"""What can only be measured on a GPU: training speed and memory, beside what was predicted, and what must hold there."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ...diffusion.plan import plan_batches
from ...diffusion.report import memory_of
from ...diffusion.throughput import peak_memory
from .gpu_exact import noise, out_of_memory, resume, syncs
from .gpu_runs import NETWORKS, SMALL, recipe_of, running

__all__ = ["measure_gpu", "training"]


def _seconds(device: torch.device, work: Callable[[], object], repeats: int) -> float:
    """The median time of a piece of work, after two rounds that are not counted."""
    taken: list[float] = []
    for _ in range(repeats + 2):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        taken.append(time.perf_counter() - began)
    return median(taken[2:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def training(name: str, small: bool, repeats: int) -> dict[str, Any]:
    """Images per second of a network, memory, and both beside what was predicted.

    The prediction of a step's time is its multiplications (forward, and twice that backward) at the rate of one large product of
    matrices, measured beside it; that of its memory is the one of `sfumato train --dry-run`.
    """
    recipe = recipe_of((SMALL if small else NETWORKS)[name], small)
    predicted = sum(memory_of(recipe, plan_batches(recipe.batch, 1, None)))
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        recipe.backbone(torch.zeros(1, *recipe.data.shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with running(recipe) as run:
        device = run.processes.device
        steps = iter(range(recipe.steps * 1000))
        seconds = _seconds(device, lambda: run.update(next(steps) % recipe.steps), repeats)
        memory, micro_batch = peak_memory(device), run.plan.micro_batch
    side = 256 if small else 8192
    a = torch.ones(side, side, device=device, dtype=torch.bfloat16)
    rate = 2 * side**3 / _seconds(device, lambda: a @ a, repeats)
    ideal = 3 * counter.get_total_flops() * recipe.batch / rate
    return {
        "images_per_second": recipe.batch / seconds, "seconds_per_step": seconds, "predicted_seconds": ideal,
        "memory_mib": memory or 0.0, "predicted_mib": predicted / 2**20, "batch": recipe.batch, "micro_batch": micro_batch,
    }  # fmt: skip


def measure_gpu(small: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Everything, said as it is measured.

    Args:
        small: a tiny network, on whatever device there is.
        say: takes a line.

    Raises:
        ValueError: without a GPU, unless small.
    """
    if not small and not torch.cuda.is_available():
        raise ValueError(
            "this PyTorch sees no GPU; run it on one, or add --quick, a tiny version on the CPU to see whether it runs"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    result: dict[str, Any] = {"device": name, "torch": str(torch.__version__), "small": small, "training": {}}
    say(
        f"{'network':<12} {'img/s':>9} {'s/step':>9} {'predicted':>9} {'MiB':>9} {'predicted':>9} {'batch':>6} {'micro':>6}   on {name}"
    )
    for network in SMALL if small else NETWORKS:
        found = result["training"][network] = training(network, small, 2 if small else 10)
        say(
            f"{network:<12} {found['images_per_second']:>9.1f} {found['seconds_per_step']:>9.4f} {found['predicted_seconds']:>9.4f} "
            f"{found['memory_mib']:>9.0f} {found['predicted_mib']:>9.0f} {found['batch']:>6} {found['micro_batch']:>6}"
        )
    result["resume"] = resume(small)
    apart = result["resume"]
    say(f"a resumed run is {apart['resumed']:.3g} from the whole one, the same run made twice {apart['repeated']:.3g}")
    result["noise"] = noise(device)
    say(f"bits of the noise as on the host: {_words(result['noise'])}")
    result["syncs"] = syncs(device, small)
    say(f"sampling without waiting for the device: {_words(result['syncs'])}")
    found = result["out_of_memory"] = out_of_memory(small)
    say(
        f"a batch of {found['batch']} that does not fit is made in micro-batches of {found['micro_batch']}: loss {found['loss']:.4f}"
    )
    return result


def _words(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {'yes' if value is True else 'NO' if value is False else f'NO ({value})'}"
        for name, value in found.items()
    )

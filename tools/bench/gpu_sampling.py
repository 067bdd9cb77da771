"""Sampling on a GPU: pictures per second, and what a step of one picture takes, as written, compiled, and as a CUDA graph."""

from __future__ import annotations

import copy
from collections.abc import Callable
from statistics import median

import torch

from ...diffusion import Denoiser, LogSNRClock
from ...diffusion.compiling import compile_forward
from ...diffusion.cuda_graph import graph_forward
from ...diffusion.half_weights import halve_weights
from ...diffusion.model import Model
from ...guidance import CFG, Guidance, Interval, Plain
from ...schedules import RectifiedFlow
from ...schedules.rows import Flow
from .gpu_clock import flops, matmul_rate, rounds, spread
from .gpu_runs import dit, filled
from .sheet import Cell

__all__ = ["GUIDED", "STEPS", "VARIANTS", "halved_dit", "pictures", "step"]

STEPS = 50

GUIDED: dict[str, Guidance] = {
    "unguided": Plain(),
    "CFG": CFG(1.5),
    "CFG in an interval": Interval(CFG(1.5), 0.28, 2.9),
}

# compiled, recorded as a CUDA graph
VARIANTS = {
    "as written": (False, False), "compiled": (True, False), "graph": (False, True), "compiled, graph": (True, True),
}  # fmt: skip


def halved_dit(device: torch.device, small: bool) -> Model:
    """DiT-XL/2 in bfloat16, as `load(precision="bf16")` makes it of a run; on latents, which no VAE turns into pictures here."""
    torch.manual_seed(0)
    with torch.device(device):  # 675 million numbers are drawn where that is fast
        network = filled(dit("XL/2", small)).eval()
    halve_weights(network, "bf16")
    denoiser = Denoiser(network, RectifiedFlow(), Flow(), LogSNRClock())
    return Model(denoiser, (4, network.size, network.size), 1000, latents=True)


def pictures(device: torch.device, small: bool) -> dict[str, dict[str, Cell]]:
    """By rule of guidance: latents per second in 50 steps, whole calls of `Model.sample`, with compiled blocks; and MFU.

    The interval is that of EDM2-S, (0.28, 2.90], in sigma / alpha.
    """
    model = halved_dit(device, small)
    batch, steps, count = (4, 3, 2) if small else (128, STEPS, 5)
    operations = flops(lambda: dit("XL/2", small), model.shape)
    if not small:
        compile_forward(model.denoiser.backbone, "blocks", inference=True)
    rate = median(matmul_rate(device, 256 if small else 8192, count))
    found: dict[str, dict[str, Cell]] = {}
    for name, guidance in GUIDED.items():
        seeds, labels = range(batch), [i % 1000 for i in range(batch)]

        def sample(guidance: Guidance = guidance, seeds: range = seeds, labels: list[int] = labels) -> int:
            made = model.sample(seeds, labels, steps=steps, guidance=guidance, batch=batch)
            return int(made.evaluations.sum())

        evaluations = sample()  # compiles
        seconds = rounds(device, sample, count)
        found[name] = {
            "images per second": spread([batch / s for s in seconds], "img/s"),
            "evaluations": Cell(evaluations / batch, unit="", exact=True),
            "MFU": spread([evaluations * operations / s / rate for s in seconds], "%"),
        }
    return found


def step(device: torch.device, small: bool) -> dict[str, dict[str, Cell]]:
    """By variant: milliseconds of a step of one picture, and of one with guidance: a whole call of `Model.sample` over its steps.

    Without a GPU there are no variants with a graph.
    """
    model = halved_dit(device, small)
    steps, count = (3, 2) if small else (STEPS, 7)
    found: dict[str, dict[str, Cell]] = {}
    for name, (compiled, graph) in VARIANTS.items():
        if graph and device.type != "cuda":
            continue
        twin = copy.deepcopy(model)
        network = twin.denoiser.backbone
        if compiled:
            compile_forward(network, "blocks", "eager" if small else "inductor", inference=True)
        if graph:
            graph_forward(network)

        def call(guidance: Guidance, twin: Model = twin) -> Callable[[], object]:
            return lambda: twin.sample([0], [1], steps=steps, guidance=guidance)

        found[name] = {}
        for said, guidance in (("step", Plain()), ("step with CFG", CFG(1.5))):
            work = call(guidance)
            work()  # compiles, and records
            found[name][said] = spread([1e3 * s / steps for s in rounds(device, work, count)], "ms")
    return found

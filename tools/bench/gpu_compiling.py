"""What compiling a network's blocks for sampling costs, and whether it is ever paid again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ...diffusion import Denoiser, DiT, LogSNRClock, UNet
from ...diffusion.blocks import blocks
from ...diffusion.compiling import compile_forward
from ...diffusion.half_weights import halve_weights
from ...diffusion.model import Model
from ...guidance import CFG, Interval, Plain
from ...samplers import Heun
from ...schedules import RectifiedFlow
from ...schedules.rows import Flow
from .gpu_clock import rounds
from .gpu_runs import dit, filled
from .sheet import Cell, exact

__all__ = ["CHANGES", "COMPILED", "compiling"]

# what a later call may ask for otherwise: steps, strength, the interval, the sampler, and batches of other sizes with a remainder
CHANGES: tuple[dict[str, Any], ...] = (
    {"steps": 5}, {"guidance": CFG(4.0)}, {"guidance": Interval(CFG(2.0), 0.2, 2.0)},
    {"guidance": Interval(CFG(2.0), 0.5, 5.0), "steps": 4}, {"guidance": Plain()}, {"sampler": Heun()},
    {"count": 9, "batch": 6}, {"count": 6, "batch": 4, "strict": True},
)  # fmt: skip


def _unet(cuda: bool, small: bool) -> UNet:
    if small or not cuda:
        return UNet(4, 8, 1000, width=8 if small else 32, multipliers=(1, 2), blocks=1, attention=(8,), head_width=8)
    return UNet(4, 32, 1000)


def _dit(cuda: bool, small: bool) -> DiT:
    return dit("XL/2", small) if cuda or small else DiT(4, 16, 1000, width=192, depth=12, heads=6)


COMPILED: dict[str, Callable[[bool, bool], DiT | UNet]] = {"DiT": _dit, "UNet": _unet}
"""(whether on a GPU, whether tiny) -> a network: DiT-XL/2 and UNet 128 there, elsewhere smaller ones."""


def compiling(name: str, device: torch.device, small: bool) -> dict[str, Cell]:
    """Seconds that the first call takes longer than the next, what is compiled in it, and in all calls that ask for other things.

    Nothing that was compiled before is reused. In bfloat16 on a GPU. Starting the compiler, which a process does once, and which the
    smallest function asks for, is told beside it: of the first network of a process only it is more than a little.

    Args:
        name: of COMPILED.
        device: where.
        small: tiny networks, traced and not compiled.
    """
    from torch._dynamo.utils import counters  # a second of imports, which only who compiles pays

    torch.manual_seed(0)
    network = COMPILED[name](device.type == "cuda", small)
    filled(network).to(device).eval()
    if device.type == "cuda":
        halve_weights(network, "bf16")
    model = Model(
        Denoiser(network, RectifiedFlow(), Flow(), LogSNRClock()), (4, network.size, network.size), 1000, latents=True
    )
    torch.compiler.reset()
    backend = "eager" if small else "inductor"
    compile_forward(network, "blocks", backend, inference=True)

    def drawn(changes: Mapping[str, Any]) -> None:
        given = {"count": 4, "steps": 3, "guidance": CFG(2.0), **changes}
        count = given.pop("count")
        model.sample(range(count), [1] * count, **given)

    cached = torch.compiler.config.force_disable_caches
    torch.compiler.config.force_disable_caches = True
    try:
        least = torch.compile(torch.sin, backend=backend)
        (start,) = rounds(device, lambda: least(torch.zeros(2, device=device)), 1)
        counters.clear()
        (first,), (second,) = (rounds(device, lambda: drawn({}), 1) for _ in range(2))
        graphs = counters["stats"]["unique_graphs"]
        for changes in CHANGES:
            drawn(changes)
    finally:
        torch.compiler.config.force_disable_caches = cached
    return {
        "starting": Cell(start, unit="s"), "compiling": Cell(first - second, unit="s"),
        "blocks": exact(len(blocks(network))), "graphs": exact(graphs),
        "recompiles": exact(counters["stats"]["unique_graphs"] - graphs),
    }  # fmt: skip

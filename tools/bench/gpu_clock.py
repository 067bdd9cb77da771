"""Time on a device, and what it could do at best."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .sheet import Cell, ratio_of

__all__ = ["flops", "matmul_rate", "rounds", "spread", "wait"]


def spread(values: Sequence[float], unit: str) -> Cell:
    """The median of rounds, and their middle half."""
    return ratio_of(values, [1.0] * len(values), unit)


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rounds(device: torch.device, work: Callable[[], object], count: int) -> list[float]:
    """Seconds of a piece of work, by the clock on the wall, each round from an idle device to an idle device.

    Args:
        device: where it runs.
        work: launched; warm it up before.
        count: rounds, >= 1.
    """
    taken: list[float] = []
    for _ in range(count):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - began)
    return taken


def matmul_rate(device: torch.device, side: int, count: int) -> list[float]:
    """Operations per second of one large product of matrices in bfloat16, per round: what a share of is called MFU here.

    Of random numbers: products of zeros draw less power, and are faster.

    Args:
        device: where.
        side: of the square matrices.
        count: rounds; each makes ten products.
    """
    a = torch.randn(side, side, device=device).bfloat16()

    def ten() -> None:
        for _ in range(10):
            a @ a  # pyright: ignore[reportUnusedExpression]

    rounds(device, ten, 1)
    return [20 * side**3 / seconds for seconds in rounds(device, ten, count)]


def flops(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> int:
    """Operations of a network's forward pass for one sample, as a counter finds them: a product and a sum are two.

    Args:
        make: a network with `num_classes`; made and asked on the meta device, where nothing is computed.
        shape: of a sample.
    """
    with torch.device("meta"):
        network, counter = make().eval(), FlopCounterMode(display=False)
        with counter, torch.no_grad():
            network(torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    return counter.get_total_flops()

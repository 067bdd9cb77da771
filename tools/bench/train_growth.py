"""How the cost of training grows: what twice the width or twice the batch takes, over what the size itself takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from ...diffusion import DiT, UNet
from .peer_networks import about, plain
from .sheet import Cell, Sheet, exact, ratio_of
from .timing import times
from .train_memory import largest_batch, predicted
from .train_recipes import recipe_of
from .train_steps import VARIANTS, awake, our_step

__all__ = ["LINES", "NETWORKS", "grown", "measure_growth"]

_SHAPE = (3, 32, 32)
NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "UNet": lambda width: UNet(3, 32, 0, width=width, multipliers=(1, 2), blocks=1, attention=(16,), head_width=16),
    "DiT": lambda width: DiT(3, 32, 0, patch=4, width=width, depth=4, heads=width // 32),
}
"""By width."""
_WIDTHS, _BATCHES = (32, 64, 128), (4, 8, 16, 32)


class Line(NamedTuple):
    """A network that somebody may want to train, and the shape of its samples."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


LINES = {
    "UNet 64, 3 x 32 x 32": Line(lambda: UNet(3, 32, 0), _SHAPE),
    "DiT-S/2, 4 x 32 x 32": Line(lambda: DiT(4), (4, 32, 32)),
    "DiT-B/2, 4 x 32 x 32": Line(lambda: DiT(4, width=768, heads=12), (4, 32, 32)),
}
_MEMORIES = (8, 16, 80)  # GiB


class Cost(NamedTuple):
    """What a network is, and a step of it: numbers, multiplications and additions of one sample forward, bytes as predicted."""

    parameters: float
    operations: float
    memory: float


def _cost(network: nn.Module, batch: int) -> Cost:
    found = about(plain(network))
    return Cost(found["parameters"], found["mflop"] * batch, predicted(recipe_of(network, _SHAPE, batch)))


def grown(
    make: Callable[[int], nn.Module], sizes: list[tuple[int, int]], rounds: int, device: str
) -> dict[tuple[int, int], dict[str, Cell]]:
    """What each (width, batch) takes over what the one before it takes, from the second on; steps in float32, interleaved.

    Args:
        make: the network of a width.
        sizes: (width, batch), each larger than the one before.
        rounds: >= 1.
        device: cpu or cuda.
    """
    taken = times(
        {str(k): our_step(awake(make(w)), b, VARIANTS["fp32"], device) for k, (w, b) in enumerate(sizes)}, rounds,
        device != "cpu",
    )  # fmt: skip
    costs = [_cost(make(w), b) for w, b in sizes]
    found: dict[tuple[int, int], dict[str, Cell]] = {}
    for k in range(1, len(sizes)):
        less, more = costs[k - 1], costs[k]
        found[sizes[k]] = {
            "times the time": ratio_of(taken[str(k)], taken[str(k - 1)]),
            "times the operations": exact(round(more.operations / less.operations, 4), "x"),
            "times the parameters": exact(round(more.parameters / less.parameters, 4), "x"),
            "times the memory": exact(round(more.memory / less.memory, 4), "x"),
        }
    return found


def measure_growth(sheet: Sheet, quick: bool, device: str) -> None:
    """A row for every step of growth, and one for every line where memory ends.

    Args:
        sheet: takes the rows.
        quick: the smallest sizes, once.
        device: cpu or cuda.
    """
    sheet.say("how a step grows: what a size takes over what the size before it takes")
    widths, batches, rounds = (_WIDTHS[:2], _BATCHES[:2], 1) if quick else (_WIDTHS, _BATCHES, 5)
    for name, make in NETWORKS.items():
        for (width, batch), cells in grown(make, [(w, batches[0]) for w in widths], rounds, device).items():
            sheet.add(f"{name}, width {width // 2} to {width}, batch {batch}", cells)
        for (width, batch), cells in grown(make, [(widths[0], b) for b in batches], rounds, device).items():
            sheet.add(f"{name}, batch {batch // 2} to {batch}, width {width}", cells)
    sheet.say("where memory ends: the most samples of a step that `sfumato train --dry-run` says fit, in float32")
    for name, line in list(LINES.items())[: 1 if quick else None]:
        recipe = recipe_of(line.make(), line.shape, 1)
        sheet.add(f"{name}, largest batch", {f"in {m} GiB": exact(largest_batch(recipe, m << 30)) for m in _MEMORIES})

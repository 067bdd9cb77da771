"""What a run adds to its steps: `train` itself, and a loop written by hand, a step of each in turn."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from ...diffusion import DiT, UNet
from ...diffusion.trainer import train
from .timing import times
from .train_recipes import Noise, recipe_of

__all__ = ["RUNS", "Small", "added", "bare", "by_hand"]


class Small(NamedTuple):
    """A network whose step takes about 10 ms of a core, the shape of its pictures, and how many a step sees."""

    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int


RUNS = {
    "UNet": Small(lambda: UNet(1, 8, 0, width=16, multipliers=(1, 2), blocks=1, attention=()), (1, 8, 8), 16),
    "DiT": Small(lambda: DiT(3, 16, 0, patch=2, width=64, depth=2, heads=2), (3, 16, 16), 16),
}


def bare(network: nn.Module, shape: tuple[int, ...], batch: int) -> Callable[[], None]:
    """A network, its loss, a backward pass and AdamW, on one batch that is never drawn again."""
    parameters, noise = list(network.parameters()), torch.randn(batch, *shape)
    x, t = torch.randn(batch, *shape), torch.rand(batch)
    optimizer = torch.optim.AdamW(parameters, lr=2e-4, fused=True)

    @torch.enable_grad()
    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(x, 1000 * t), noise).backward()
        optimizer.step()

    return step


def by_hand(network: nn.Module, shape: tuple[int, ...], batch: int, pictures: int) -> Callable[[], None]:
    """The same with what a script of one's own has around it: data and noise that are drawn, clipping, an average, a loss to print."""
    data, parameters = Noise(pictures, shape).x, list(network.parameters())
    average = [p.detach().clone() for p in parameters]
    optimizer, losses = torch.optim.AdamW(parameters, lr=2e-4, fused=True), [0.0]

    @torch.enable_grad()
    def step() -> None:
        x0 = data[torch.randint(len(data), (batch,))]
        noise, t = torch.randn_like(x0), torch.rand(batch)
        at = t.view(-1, *[1] * len(shape))
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(network((1 - at) * x0 + at * noise, 1000 * t), noise - x0)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [p.detach() for p in parameters], 1e-3)  # pyright: ignore[reportPrivateImportUsage]
        losses[0] += loss.item()

    return step


def added(small: Small, rounds: int, steps: int = 50, pictures: int = 512) -> dict[str, list[float]]:
    """CPU seconds per round of `steps` steps of "run", "bare" and "by hand", a step of each in turn, after one round not counted.

    The run is `train`, from the end of one step to the end of the next, whatever lies between: reading, drawing, checking, clipping, the
    average, and one line of the log per round. Checkpoints and previews are none.

    Args:
        small: what is trained.
        rounds: >= 1.
        steps: per round, as often as a line is logged.
        pictures: in the data.
    """
    network = small.make()
    loops = {
        "bare": bare(copy.deepcopy(network), small.shape, small.batch),
        "by hand": by_hand(copy.deepcopy(network), small.shape, small.batch, pictures),
    }
    times(loops, 1, cuda=False)
    taken: dict[str, list[float]] = {"run": [], **{name: [] for name in loops}}
    spent, ended = dict.fromkeys(taken, 0.0), time.process_time()

    def watch(step: int, loss: float) -> None:
        nonlocal ended
        spent["run"] += time.process_time() - ended
        for name, loop in loops.items():
            began = time.process_time()
            loop()
            spent[name] += time.process_time() - began
        if step % steps == 0:
            for name, seconds in spent.items():
                if step > steps:
                    taken[name].append(seconds / steps)
                spent[name] = 0.0
        ended = time.process_time()

    recipe = recipe_of(network, small.shape, small.batch, steps * (rounds + 1), pictures)
    assert recipe.log_every == 50
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()), torch.enable_grad():
        train(recipe, Path(folder) / "run", watch=watch)
    return taken

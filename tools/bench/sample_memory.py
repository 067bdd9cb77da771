"""Memory of the sampler's loop beside the network: every byte that PyTorch's allocator hands out, by its profiler.

A loop cannot hold less than the network does with its own input and output. What it holds beside that, at its peak, is counted in
tensors like x: the state where the network is shown a joined batch, past predictions, and what a step makes on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from ...diffusion.branches import branches_of
from ...guidance import CFG, Field, Guidance, Plain
from ...samplers import Sampler
from ...samplers.refill import fill
from ...schedules import trailing
from .goals import Goal
from .methods import METHODS
from .sample_networks import OneOperation, model_of, small_unet, unsaid
from .sheet import Sheet, exact

__all__ = ["MEMORY_GOALS", "beside", "measure_memory", "peaks"]

_COUNT, _CHANNELS, _SIZE, _CLASSES, _STEPS = 2, 3, 64, 10, 8
_ASKED = "the network is asked"
_METHODS = ("DDIM", "DPMSolverPP(2)", "UniPC(2)", "PLMS(4)", "Heun")
_RULES: dict[str, Guidance] = {"": Plain(), ", CFG": CFG(3.0)}
_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "network of one operation": lambda: OneOperation(num_classes=_CLASSES),
    "UNet": lambda: small_unet(_SIZE, _CLASSES),
}


class Peaks(NamedTuple):
    """The most bytes held at once, above what was held before: in all, and from the first time that a network was asked."""

    whole: int
    asked: int


def peaks(run: Callable[[], object]) -> Peaks:
    """The peaks of a run on the host, without gradients.

    Args:
        run: what is run; what it still holds at its end is let go of with its answer.
    """
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    kineto = profiler.profiler
    assert kineto is not None
    assert kineto.kineto_results is not None
    held = whole = asked = 0
    seen = False
    for event in sorted(
        kineto.kineto_results.events(), key=lambda event: event.start_ns()
    ):  # equal times stay in their order
        if event.name() == "[memory]":
            held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            whole = max(whole, held)
        seen |= event.name() == _ASKED
        asked = max(asked, held) if seen else 0
    return Peaks(whole, asked)


def beside(sampler: Sampler, rule: Guidance, backbone: nn.Module) -> tuple[float, float]:
    """What the loop holds at its peak beside its network, in tensors like x, and what a whole call of `Model.sample` does.

    The network's own peak is that of one call with all branches, its input and output among it.

    Args:
        sampler: the method.
        rule: the guidance.
        backbone: the network, of pictures (3, 64, 64) and ten classes.
    """
    marked = _Marked(backbone).eval()
    model = model_of(marked, (_CHANNELS, _SIZE, _SIZE))
    model.num_classes, labels = _CLASSES, [0] * _COUNT
    conditions = model.conditions(labels, _COUNT)
    levels = trailing(model.denoiser.schedule, _STEPS)

    def denoise_for(slots: Tensor) -> Field:
        return Field(branches_of(model.denoiser, None, conditions, slots), rule, len(slots), slots, _COUNT)

    def loop() -> None:
        for _ in fill(sampler, denoise_for, levels, range(_COUNT), model.shape, batch=_COUNT):
            pass

    def call() -> None:
        model.sample(range(_COUNT), labels, steps=_STEPS, sampler=sampler, guidance=rule)

    rows = _COUNT * (1 if isinstance(rule, Plain) else 2)

    def network() -> None:
        backbone(torch.randn(rows, *model.shape), torch.zeros(rows), torch.zeros(rows, dtype=torch.int64))

    like_x = 4 * _COUNT * _CHANNELS * _SIZE * _SIZE
    with unsaid():
        loop()  # what is made once (tables, plans of a convolution) is no part of it
        own = peaks(network).whole
        return (peaks(loop).asked - own) / like_x, (peaks(call).whole - own) / like_x


class _Marked(nn.Module):
    """A backbone that leaves a mark in the profile when it is asked."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.num_classes = backbone, _CLASSES

    def forward(self, x: Tensor, time: Tensor, labels: Tensor) -> Tensor:
        with record_function(_ASKED):
            pass
        return self.backbone(x, time, labels)


def measure_memory(sheet: Sheet) -> None:
    """A row for each method, without and with guidance."""
    sheet.say("bytes held at the peak beside the network's own, in tensors like x; counted by the profiler")
    torch.manual_seed(0)
    backbones = {name: make().eval() for name, make in _NETWORKS.items()}
    for name in _METHODS:
        for guided, rule in _RULES.items():
            found = {who: beside(METHODS[name].sampler, rule, backbone) for who, backbone in backbones.items()}
            cells = {f"loop, {who}": exact(round(loop, 2) + 0.0) for who, (loop, _) in found.items()}
            cells |= {f"call, {who}": exact(round(call, 2) + 0.0) for who, (_, call) in found.items()}
            sheet.add(f"memory, {name}{guided}", cells)


MEMORY_GOALS = tuple(
    Goal(
        f"memory of the loop beside a UNet's, {name}{guided}, in tensors like x", "sample", f"memory, {name}{guided}", "loop, UNet", 3.0,
        why="the state stands beside the batch in which the branches are joined: one tensor more than without guidance" if guided else "",
    )
    for name in _METHODS for guided in _RULES
)  # fmt: skip

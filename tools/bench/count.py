"""What one evaluation costs beside the network, by torch.profiler: exact numbers, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from .floors import Network

__all__ = ["UNITS", "Counts", "count"]

UNITS = {"full": "full-tensor operations", "small": "small operations", "syncs": "syncs", "fresh": "fresh tensors"}
"""What the counts are called in tables."""

# what only looks at a tensor in another way, or hands it on
_VIEWS = {
    "alias", "as_strided", "detach", "expand", "flatten", "lift_fresh", "narrow", "permute", "reshape", "select", "slice",
    "squeeze", "to", "unsqueeze", "view",
}  # fmt: skip


class Counts(NamedTuple):
    """Per evaluation, without the network's own operation and tensor.

    full: operations on tensors of x's size. small: others, and views. syncs: reads of a tensor by the host. fresh: bytes allocated,
    in units of x.
    """

    full: float
    small: float
    syncs: float
    fresh: float


class _Window:
    """A network that multiplies by 0.5, and profiles from one of its calls to another."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last, self._calls = first, last, 0
        self._profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True)
        self.over = False

    def __call__(self, x: Tensor) -> Tensor:
        if self._calls == self._first:
            self._profile.start()
        if self._calls == self._last:
            self._profile.stop()
            self.over = True
        self._calls += 1
        return x * 0.5

    def events(self) -> list[Any]:
        return list(self._profile.events() or [])


def count(walk: Callable[[Network, Tensor], object], x: Tensor, first: int, evaluations: int) -> Counts:
    """Count what happens from evaluation `first` on, for some evaluations (in whole steps of the method).

    Args:
        walk: (network, x) -> anything; asks the network at least first + evaluations + 1 times.
        x: where it starts, large enough to be told from a number, on the host.
    """
    window = _Window(first, first + evaluations)
    with torch.no_grad():
        walk(window, x)
    assert window.over
    size, full, small, syncs, fresh = x.numel(), 0, 0, 0, 0.0
    for event in window.events():
        name = str(event.name).removeprefix("aten::")
        if name == event.name:
            continue
        syncs += name == "_local_scalar_dense"
        fresh += max(0, event.self_cpu_memory_usage)
        if event.cpu_parent is not None and str(event.cpu_parent.name).startswith("aten::"):
            continue
        moves = name not in _VIEWS or any(child.name == "aten::_to_copy" for child in event.cpu_children)
        large = any(_numel(shape) >= size for shape in event.input_shapes)
        full += large and moves
        small += not (large and moves)
    n = evaluations
    return Counts(full / n - 1, small / n, syncs / n, fresh / (x.element_size() * size * n) - 1)


def _numel(shape: Any) -> int:
    """How many numbers a shape of the profiler holds; those of no tensor and of lists of tensors are none."""
    total = 1 if shape else 0
    for side in shape:
        total *= side if isinstance(side, int) else 0
    return total

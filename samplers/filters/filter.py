"""What a filter is: it watches every step of a batch and gives its verdict at the end."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from ..trajectory import Step

__all__ = ["Filter", "Verdict"]


class Verdict(NamedTuple):
    """keep: bool (B,). score: float (B,), what the verdict was read from; larger is worse."""

    keep: Tensor
    score: Tensor


@runtime_checkable
class Filter(Protocol):
    """Watches a batch; a frozen dataclass that keeps what it has seen in a memory of batch-first tensors.

    It may ask `step.denoise` again; that is counted like all else. `step.noise(step.index, draw)` with draw in [0, 65,536) are
    Gaussians of its own: the sampler, and other filters, get others at the same address.
    """

    def init(self, x: Tensor) -> Any:
        """The memory before the first step, for a batch like x."""
        ...

    def update(self, memory: Any, step: Step) -> Any:
        """The memory after a step."""
        ...

    def verdict(self, memory: Any) -> Verdict:
        """After the last step: which samples to keep."""
        ...

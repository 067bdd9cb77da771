"""What a piece of training does, counted by torch.profiler: the same numbers at every run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

from torch.profiler import ProfilerActivity, profile

__all__ = ["Done", "allocations", "done", "peak"]


class Done(NamedTuple):
    """operations: of PyTorch that no other one called. fresh: bytes that were allocated on the host. syncs: reads of a tensor by the
    host."""

    operations: int
    fresh: int
    syncs: int


def done(run: Callable[[], object]) -> Done:
    """Count what a call does, backward passes included.

    Args:
        run: on the host.
    """
    events, memory = _profiled(run)
    operations = [e for e in events if str(e.name).startswith("aten::")]
    outer = [e for e in operations if e.cpu_parent is None or not str(e.cpu_parent.name).startswith("aten::")]
    syncs = sum(e.name == "aten::_local_scalar_dense" for e in operations)
    return Done(len(outer), sum(size for size in memory if size > 0), syncs)


def allocations(run: Callable[[], object]) -> list[int]:
    """Bytes of every tensor that a call allocates (above zero) or frees (below) on the host, in their order."""
    return _profiled(run)[1]


def peak(sizes: list[int]) -> int:
    """The most bytes beyond those of the start that were held at any time; arguments as `allocations` gives them."""
    return max(accumulate(sizes), default=0)


def _profiled(run: Callable[[], object]) -> tuple[list[Any], list[int]]:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    found: Any = profiled.profiler
    raw = [event for event in found.kineto_results.events() if event.name() == "[memory]"]
    return list(profiled.events() or []), [event.nbytes() for event in sorted(raw, key=lambda e: e.start_ns())]

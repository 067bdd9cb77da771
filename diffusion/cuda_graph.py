"""A network's forward pass for sampling as CUDA graphs: one launch instead of one per kernel, which is all that a small batch waits for."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..guidance.tree import Tree, map_tree
from .blocks import around

__all__ = ["Record", "graph_forward", "record_on_cuda"]

# Kinds of input that are recorded. Rules that choose rows ask for any number of them, and each recording takes memory and some runs.
MOST = 32
_WARM = 3  # runs before recording, in which libraries choose their kernels and what is compiled is compiled

Record = Callable[[Callable[[], Tensor], Any], tuple[Tensor, Callable[[], object]]]
"""(run, pool) -> the tensor that each replay writes run's answer to, and what replays it."""


def graph_forward(backbone: nn.Module, record: Record | None = None) -> None:
    """Record a network's forward pass once per kind of input, and replay it.

    Inputs are copied to where the recording reads them, and the answer is a copy of what it writes: two answers can be held. A kind is
    the shapes and dtypes of everything that the network is told, so other steps, samplers and strengths record nothing, and an interval
    of guidance (B rows or 2B) or a remainder of the batch one more each; after 32 kinds, others run as they are written. So does what
    has gradients, or runs under an autocast of the caller. Weights may be changed in place; where they come to lie elsewhere, or a layer
    is another one, all is recorded again. Hooks on what is within the network see the recording, not the replays.

    Args:
        backbone: changed in place, after quantising and compiling; the keys of its state dict stay as they are.
        record: how; None: as a CUDA graph.

    Raises:
        ValueError: for a network that is not on a CUDA device, where `record` is None; when called, for what can't be recorded.

    Source: Nguyen et al. 2021, "Accelerating PyTorch with CUDA Graphs"; torch.cuda.graph.
    """
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    if record is None and device.type != "cuda":
        raise ValueError(
            f"graph is true, but {type(backbone).__name__} is on {device}; allowed: a network on a CUDA device; set device: cuda, or "
            "graph: false"
        )
    around(backbone, lambda forward: _Graphed(backbone, forward, record or record_on_cuda))


def record_on_cuda(run: Callable[[], Tensor], pool: Any) -> tuple[Tensor, Callable[[], object]]:
    """Capture what `run` launches on the current CUDA device; see `Record`.

    Args:
        run: reads and writes the same memory each time, and waits for nothing.
        pool: of torch.cuda.graph_pool_handle. Recordings share it: none is replayed before the answer of the last was copied.
    """
    here, side = torch.cuda.current_stream(), torch.cuda.Stream()
    side.wait_stream(here)
    with torch.cuda.stream(side):
        for _ in range(_WARM):
            run()
    here.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # other threads may go on, such as one that writes pictures
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
        out = run()
    return out, graph.replay


class _Held(NamedTuple):
    """A recording: where it reads, where it writes, and what replays it."""

    given: Tree
    out: Tensor
    replay: Callable[[], object]


class _Graphed:
    """A forward that is recorded at the first call of each kind; a deep copy records its own."""

    def __init__(self, module: nn.Module, forward: Callable[..., Tensor], record: Record) -> None:
        functools.update_wrapper(self, forward)
        self._module, self._forward, self._record = module, forward, record
        self._forget()

    def _forget(self) -> None:
        self._held: dict[tuple[object, ...], _Held] = {}
        self._where: list[int] = []
        self._known: Any = None
        self._pool: Any = None
        # two threads that sample from one network would write over each other's inputs
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_held", "_where", "_known", "_values", "_children", "_pool", "_lock")
        return {k: v for k, v in self.__dict__.items() if k not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        device = next((v.device for v in args if isinstance(v, Tensor)), torch.device("cpu"))
        if torch.is_grad_enabled() or torch.is_autocast_enabled(device.type):
            return self._forward(*args, **kwargs)
        given = (args, kwargs)
        kind = (self._module.training, torch.is_inference_mode_enabled(), *_kind(given))
        with self._lock:
            self._look_where()
            held = self._held.get(kind)
            if held is None and len(self._held) == MOST:
                return self._forward(*args, **kwargs)
            if held is None:
                held = self._held[kind] = self._recorded(given, device)
            else:
                map_tree(lambda to, value: to.copy_(value, non_blocking=True), held.given, given)
            held.replay()
            return held.out.clone()

    def _look_where(self) -> None:
        """Forget all recordings where a weight lies elsewhere than they read it, or a layer is another one."""
        if self._known is None or self._placed() != self._where:
            self._held.clear()
            layers = list(self._module.modules())
            self._values = [slots for m in layers for slots in (m._parameters, m._buffers) if slots]
            self._children = [m._modules for m in layers if m._modules]
            # what is known by its id is held, so that nothing else comes to have it
            values = (value for slots in self._values for value in slots.values() if value is not None)
            self._known = layers, [value for value in values if not value.data_ptr()]
            self._where = self._placed()

    def _placed(self) -> list[int]:
        """Where weights lie, and which layers there are; a weight that stands for others (int8) lies nowhere, and is known by itself."""
        where = [
            value.data_ptr() or id(value) for slots in self._values for value in slots.values() if value is not None
        ]
        return where + [id(layer) for layers in self._children for layer in layers.values()]

    def _recorded(self, given: Tree, device: torch.device) -> _Held:
        own: Any = map_tree(lambda value: torch.empty_like(value).copy_(value), given)
        args, kwargs = own
        here = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        if device.type == "cuda" and not self._held:  # a pool that no recording holds any more can't be shared
            self._pool = torch.cuda.graph_pool_handle()
        name = type(self._module).__name__
        try:
            with here:
                out, replay = self._record(lambda: self._forward(*args, **kwargs), self._pool)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ValueError(
                f"graph is true, but {name} can't be recorded: {reason}; it may not read numbers of the device in its forward pass; set "
                "graph: false"
            ) from error
        return _Held(own, out, replay)


def _kind(tree: Tree) -> list[object]:
    """What of inputs a recording is for: their places, shapes, dtypes and devices."""
    if isinstance(tree, Tensor):
        return [tree.shape, tree.dtype, tree.device]
    if isinstance(tree, dict):
        return [part for key, value in tree.items() for part in (key, *_kind(value))]
    if isinstance(tree, tuple):
        return [len(tree), *(part for value in tree for part in _kind(value))]
    return [tree]

"""Ranges of activations for static int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ..guidance.tree import take
from .int8_linear import Range
from .model import Model
from .own_inputs import TOGETHER, Fed, RangeSearch, own_inputs
from .rounding import BINS, best_range

__all__ = ["ranges_of", "static_ranges"]


@torch.no_grad()
def static_ranges(
    model: Model, names: Sequence[str], how: RangeSearch, prompts: Sequence[str] | None = None
) -> dict[str, Range]:
    """The range of the inputs of each of a model's layers.

    Args:
        model: the model, in full precision.
        names: of linear layers of its backbone.
        how: on which inputs, and how the range is chosen.
        prompts: of a model that knows texts: those of the trajectories, in turn.

    Raises:
        ValueError: for a layer that is never run, or sees inputs that are not finite or of several numbers of dimensions.
    """
    return ranges_of(model.denoiser.backbone, names, own_inputs(model, how, prompts), how.clip)


@torch.no_grad()
def ranges_of(
    network: nn.Module, names: Sequence[str], fed: Fed, clip: Literal["mse", "minmax"] = "mse"
) -> dict[str, Range]:
    """The range of the inputs of each of a network's layers while it is fed; see `static_ranges`.

    Args:
        network: in full precision.
        names: of its layers.
        fed: what it is fed.
        clip: see `RangeSearch`.
    """
    found: dict[str, Range] = {}
    with _watched(network, names, partial(_widen, found)):
        _fed(network, fed)
    lacking = [name for name in names if name not in found]
    if lacking:
        raise ValueError(f"layer {lacking[0]} was never run while ranges were looked for; keep it in full precision")
    if clip == "minmax":
        return found
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in names}

    def count(name: str, x: Tensor) -> None:
        low, high, _ = found[name]
        if high > low:
            counts[name] += torch.histc(x.float(), BINS, low, high).double().cpu()

    with _watched(network, names, count):
        _fed(network, fed)
    return {name: best_range(counts[name], found[name]) for name in names}


def _widen(found: dict[str, Range], name: str, x: Tensor) -> None:
    """The range with what else was seen."""
    low, high = (float(v) for v in x.aminmax())
    if not abs(low) + abs(high) < float("inf"):
        raise ValueError(f"the inputs of layer {name} are not finite while ranges are looked for; the weights hold nan")
    before = found.get(name, Range(0.0, 0.0, x.ndim))
    if before.ndim != x.ndim:
        raise ValueError(
            f"layer {name} sees inputs of {before.ndim} and of {x.ndim} dimensions, and a static scale is for one; keep it"
        )
    found[name] = Range(min(before.low, low), max(before.high, high), x.ndim)


@contextmanager
def _watched(network: nn.Module, names: Sequence[str], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Every input of the named layers is shown to `see(name, x)`."""

    def hook(name: str, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        see(name, args[0])

    handles = [network.get_submodule(n).register_forward_pre_hook(partial(hook, n)) for n in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _fed(network: nn.Module, fed: Fed) -> None:
    training = network.training
    network.eval()
    try:
        for begin in range(0, len(fed.x), TOGETHER):
            cut = slice(begin, begin + TOGETHER)
            condition = take(fed.condition, cut)
            assert isinstance(condition, Mapping)
            network(fed.x[cut], fed.time[cut], **condition)
    finally:
        network.train(training)

"""Linear layers in int8, by torchao; the one file that imports it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import nn

from .quiet import quietly

__all__ = ["Kind", "Range", "check_kind", "to_int8"]

Kind = Literal["int8_weights", "int8", "int8_static"]


class Range(NamedTuple):
    """What a layer's inputs are cut to before they are rounded.

    low, high: bounds, low <= 0 <= high. ndim: dimensions of the inputs, which torchao wants to know.
    """

    low: float
    high: float
    ndim: int


def check_kind(kind: str, device: torch.device | str = "cpu") -> None:
    """Refuse a kind of quantisation that is none, or that can't be used on a device, by trying it on a small layer.

    Args:
        kind: see `quantise`.
        device: where the network is.

    Raises:
        ValueError: with the reason and what is allowed.
    """
    if kind not in get_args(Kind):
        raise ValueError(
            f"quantize is {kind!r}; allowed: int8_weights (weights only), int8 (weights, and inputs scaled as they come), int8_static "
            "(weights, and inputs by scales found beforehand)"
        )
    _torchao()
    try:
        layer = nn.Linear(32, 32, device=device).requires_grad_(False)
        x = torch.linspace(-1, 1, 32 * 32, device=device).view(1, 32, 32)
        wanted = layer(x)
        to_int8(layer, kind, Range(-1.0, 1.0, 3) if kind == "int8_static" else None)
        error = float((layer(x) - wanted).norm() / wanted.norm())
    except Exception as reason:  # whatever a library says of a device that it does not know
        raise ValueError(
            f"quantize is {kind!r}, which does not run on {device} here: {type(reason).__name__}: {' '.join(str(reason).split())[:300]}; "
            "leave it out, or take another device"
        ) from reason
    if not error < 0.05:
        raise ValueError(
            f"quantize is {kind!r}, and on {device} a product of small matrices is off by {error:.0%} here; leave it out, or take another "
            "device"
        )


def to_int8(layer: nn.Linear, kind: str, given: Range | None = None) -> None:
    """Replace the weights of a linear layer by int8, one scale per output, in place.

    Args:
        layer: of any floating dtype; its inputs and outputs stay in theirs.
        kind: see `quantise`.
        given: the range of its inputs, for int8_static.
    """
    library = _torchao()
    with torch.no_grad():
        library.quantize_(
            layer, _config(library, kind, layer.weight.device, given), filter_fn=lambda module, name: True
        )


def _config(library: Any, kind: str, device: torch.device, given: Range | None) -> object:
    """How torchao calls a kind."""
    # inductor's settings are the process's, and not ours to set
    if kind == "int8_weights":
        return library.Int8WeightOnlyConfig(set_inductor_config=False)
    # without VNNI a CPU adds pairs of products in 16 bits, where full int8 overflows
    small = _overflows(device)
    if kind == "int8":
        return library.Int8DynamicActivationInt8WeightConfig(set_inductor_config=False, reduce_range=small)
    assert given is not None
    least, most = (-64, 63) if small else (-128, 127)
    scale, zero = scale_and_zero(given.low, given.high, least, most)
    ones = [1] * given.ndim
    return library.Int8StaticActivationInt8WeightConfig(
        act_quant_scale=torch.full(ones, scale, dtype=torch.float32, device=device),
        act_quant_zero_point=torch.full(ones, zero, dtype=torch.int8, device=device),
        act_mapping_type=library.quant_primitives.MappingType.ASYMMETRIC,
        granularity=[library.PerTensor(), library.PerRow()], set_inductor_config=False, version=2, reduce_range=small,
    )  # fmt: skip


def scale_and_zero(low: float, high: float, least: int = -128, most: int = 127) -> tuple[float, int]:
    """What a whole number counts, and which one is 0, where low..high is spread over least..most.

    Args:
        low, high: bounds, low <= 0 <= high.
        least, most: whole numbers.
    """
    scale = max(high - low, 1e-12) / (most - least)
    return scale, min(max(least - round(low / scale), least), most)


def _overflows(device: torch.device) -> bool:
    from torchao.utils import should_reduce_range

    return bool(should_reduce_range(device))


def _torchao() -> Any:
    """torchao's quantisation.

    Raises:
        ValueError: where it is not installed, or is too old.
    """
    try:
        with quietly():
            import torchao.quantization as library
    except ImportError as error:
        raise ValueError(f"quantize needs torchao: pip install 'sfumato[quantize]' ({error})") from error
    if not hasattr(library, "Int8StaticActivationInt8WeightConfig"):
        raise ValueError("quantize needs a newer torchao: pip install -U 'sfumato[quantize]'")
    return library

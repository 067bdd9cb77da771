"""What a tensor that stands for others is made of."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["inner_tensors"]


def inner_tensors(tensor: Tensor) -> tuple[list[tuple[str, Tensor]], str]:
    """The plain tensors within one, by name, and what else it is, as text; a plain tensor is its own, without a name.

    tensor: any; a quantised weight holds whole numbers and scales.
    """
    inside = tensor.data if isinstance(tensor, nn.Parameter) else tensor
    flatten = getattr(inside, "__tensor_flatten__", None)
    if flatten is None:
        return [("", tensor)], ""
    names, also = flatten()
    found: list[tuple[str, Tensor]] = []
    for name in names:
        parts, more = inner_tensors(getattr(inside, name))
        found += [(f"{name}.{part}" if part else name, t) for part, t in parts]
        also = f"{also} {more}" if more else also
    return found, repr(also)

"""What the adapters of networks of diffusers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["answered", "fed", "refuse_config", "side", "whole"]


def fed(network: nn.Module, x: Tensor) -> Tensor:
    """A tensor in the dtype that a network computes in; whole numbers stay.

    Args:
        network: whose first parameter says the dtype.
        x: any shape.
    """
    if not x.is_floating_point():
        return x
    dtype = next(network.parameters()).dtype
    return x.to(dtype) if dtype.is_floating_point else x


def answered(out: Any, x: Tensor) -> Tensor:
    """What a network of diffusers returned, in x's dtype.

    Args:
        out: its output, with `.sample`, or the tensor.
        x: what it was asked at.
    """
    found: Tensor = out.sample if hasattr(out, "sample") else out
    return found.to(x.dtype)


def side(size: int | Sequence[int] | None) -> int | None:
    """The side of a square, None for what is none.

    Args:
        size: of a config: one number, or height and width.
    """
    if size is None or isinstance(size, int):
        return size
    height, width = size
    return int(height) if height == width else None


def refuse_config(network: nn.Module, key: str, allowed: tuple[object, ...], why: str) -> None:
    """Refuse a network whose config says something that no adapter serves.

    Args:
        network: of diffusers.
        key: of its config; one that it has not is None.
        allowed: the values that are served.
        why: not the others.

    Raises:
        ValueError: naming the class, the key, its value and what is allowed.
    """
    value = dict(network.config).get(key)  # pyright: ignore[reportCallIssue,reportArgumentType]
    if value not in allowed:
        raise ValueError(
            f"{type(network).__name__}: {key} is {value!r}, which is not served: {why}; allowed: {', '.join(map(repr, allowed))}"
        )


def whole(x: Tensor, value: float) -> Tensor:
    """One number per row, float32.

    Args:
        x: (B, ...), whose device it is on.
        value: the number.
    """
    return torch.full((len(x),), value, dtype=torch.float32, device=x.device)

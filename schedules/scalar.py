"""The few functions a level needs, on plain floats and on tensors alike, with limits where `math` raises.

Sampling carries floats (nothing can synchronise a device), training carries tensors; a schedule is written once for both.
"""

from __future__ import annotations

import math
from typing import TypeAlias, overload

import torch
from torch import Tensor

Number: TypeAlias = float | Tensor

__all__ = [
    "Number", "angle", "cos", "divide", "exp", "expm1", "log", "log1p", "maximum", "minimum", "relu", "shares", "sigmoid", "sin",
    "softplus", "sqrt", "where",
]  # fmt: skip


@overload
def log(value: float) -> float: ...
@overload
def log(value: Tensor) -> Tensor: ...
def log(value: Number) -> Number:
    """Natural logarithm; log(0) is -inf."""
    if isinstance(value, Tensor):
        return torch.log(value)
    return math.log(value) if value > 0 else (-math.inf if value == 0 else math.nan)


@overload
def exp(value: float) -> float: ...
@overload
def exp(value: Tensor) -> Tensor: ...
def exp(value: Number) -> Number:
    """Exponential; overflow is inf."""
    if isinstance(value, Tensor):
        return torch.exp(value)
    return math.exp(value) if value < 709.0 else math.inf


@overload
def sqrt(value: float) -> float: ...
@overload
def sqrt(value: Tensor) -> Tensor: ...
def sqrt(value: Number) -> Number:
    """Square root."""
    return torch.sqrt(value) if isinstance(value, Tensor) else math.sqrt(value)


@overload
def relu(value: float) -> float: ...
@overload
def relu(value: Tensor) -> Tensor: ...
def relu(value: Number) -> Number:
    """max(value, 0): round-off below zero before a square root."""
    return value.clamp_min(0.0) if isinstance(value, Tensor) else max(value, 0.0)


@overload
def sigmoid(value: float) -> float: ...
@overload
def sigmoid(value: Tensor) -> Tensor: ...
def sigmoid(value: Number) -> Number:
    """1 / (1 + e^-value), to full relative precision in both tails; exact at +-inf."""
    if isinstance(value, Tensor):
        return torch.sigmoid(value)
    return 1.0 / (1.0 + exp(-value))


@overload
def softplus(value: float) -> float: ...
@overload
def softplus(value: Tensor) -> Tensor: ...
def softplus(value: Number) -> Number:
    """log(1 + e^value)."""
    if isinstance(value, Tensor):
        return torch.logaddexp(value, torch.zeros_like(value))
    return value + math.log1p(math.exp(-value)) if value > 0 else math.log1p(exp(value))


@overload
def divide(a: float, b: float) -> float: ...
@overload
def divide(a: Number, b: Tensor) -> Tensor: ...
@overload
def divide(a: Tensor, b: Number) -> Tensor: ...
@overload
def divide(a: Number, b: Number) -> Number: ...
def divide(a: Number, b: Number) -> Number:
    """a / b for a, b in [0, inf], with a / 0 = inf; 0 / 0 and inf / inf are 1: what does not change keeps its ratio."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        first, second = both(a, b)
        same = (first == second) & ((second == 0) | second.isinf())
        return torch.where(same, 1.0, first / second)
    if b == 0 or (a == math.inf and b == math.inf):
        return 1.0 if a == b else math.inf
    return a / b


@overload
def sin(value: float) -> float: ...
@overload
def sin(value: Tensor) -> Tensor: ...
def sin(value: Number) -> Number:
    """Sine of radians."""
    return torch.sin(value) if isinstance(value, Tensor) else math.sin(value)


@overload
def cos(value: float) -> float: ...
@overload
def cos(value: Tensor) -> Tensor: ...
def cos(value: Number) -> Number:
    """Cosine of radians."""
    return torch.cos(value) if isinstance(value, Tensor) else math.cos(value)


def angle(sine: Number, cosine: Number) -> Number:
    """The angle in radians, -pi to pi, whose sine and cosine are in this ratio: digits are lost at neither end."""
    if isinstance(sine, Tensor) or isinstance(cosine, Tensor):
        return torch.atan2(*torch.broadcast_tensors(*both(sine, cosine)))
    return math.atan2(sine, cosine)


def both(a: Number, b: Number) -> tuple[Tensor, Tensor]:
    """Two numbers of which one is a tensor, as tensors of its dtype on its device."""
    like = a if isinstance(a, Tensor) else b
    assert isinstance(like, Tensor)
    return torch.as_tensor(a, dtype=like.dtype, device=like.device), torch.as_tensor(
        b, dtype=like.dtype, device=like.device
    )


@overload
def expm1(value: float) -> float: ...
@overload
def expm1(value: Tensor) -> Tensor: ...
def expm1(value: Number) -> Number:
    """e^value - 1, to full relative precision near 0."""
    return torch.expm1(value) if isinstance(value, Tensor) else math.expm1(value)


@overload
def log1p(value: float) -> float: ...
@overload
def log1p(value: Tensor) -> Tensor: ...
def log1p(value: Number) -> Number:
    """log(1 + value), to full relative precision near 0; -inf at -1, and below it, where only round-off leads."""
    if isinstance(value, Tensor):
        return torch.log1p(value.clamp_min(-1.0))
    return math.log1p(value) if value > -1.0 else -math.inf


def minimum(a: Number, b: Number) -> Number:
    """The smaller one."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.minimum(*both(a, b))
    return min(a, b)


def maximum(a: Number, b: Number) -> Number:
    """The larger one."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return torch.maximum(*both(a, b))
    return max(a, b)


def where(condition: bool | Tensor, a: Number, b: Number) -> Number:
    """a where the condition holds, else b; both are computed."""
    if isinstance(condition, Tensor):
        return torch.where(condition, a, b)
    return a if condition else b


def shares(log_snr: Number) -> tuple[Number, Number]:
    """sigmoid(log_snr) and sigmoid(-log_snr), the signal's and the noise's share of the variance.

    The one near 1 is made as 1 minus the other: the slope of sigmoid keeps its digits on one side only, and a density is a slope.
    """
    signal, noise = sigmoid(log_snr), sigmoid(-log_snr)
    return where(log_snr > 0, 1.0 - noise, signal), where(log_snr > 0, noise, 1.0 - signal)

"""How much each optimizer step's weights count in an average: power functions of training time, and exponential decay."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = [
    "LONGEST",
    "Exponential",
    "Power",
    "Profile",
    "gamma_of",
    "inner_product",
    "length_in",
    "length_of",
    "name_of",
]

# (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) is largest where gamma^2 + 3 gamma + 1 = 0; there it is the golden ratio's -5th power
LONGEST = ((1 + math.sqrt(5)) / 2) ** -2.5


@runtime_checkable
class Profile(Protocol):
    """The weights of an average. `weights(step)` gives those of the optimizer steps 1..step, float64 (step,), of sum 1."""

    def weights(self, step: int) -> Tensor:
        """Of the steps 1..step."""
        ...


def length_of(gamma: float) -> float:
    """The relative width sigma_rel of the power function tau^gamma on [0, t]: its standard deviation as a share of t.

    gamma: above -1. Source: the variance of Beta(gamma + 1, 1).
    """
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def gamma_of(length: float) -> float:
    """The power whose relative width is `length`: the inverse of `length_of` on gamma >= -0.38, where it falls.

    Args:
        length: sigma_rel, 0 < length <= 0.3; 0.2887 is the plain mean (gamma 0).

    Raises:
        ValueError: for a length that no power has.

    Source: with u = gamma + 2 and s = 1 / length^2 it is the largest root of u^3 + u^2 - s u + s = 0 (Cardano).
    """
    if isinstance(length, bool) or not 0.0 < length <= LONGEST:
        raise ValueError(
            f"length is {length}; allowed: above 0 to 0.3, the width of the average as a share of training, such as 0.1"
        )
    s = length**-2
    p, q = -s - 1 / 3, 2 / 27 + 4 * s / 3
    u = 2 * math.sqrt(-p / 3) * math.cos(math.acos(max(-1.0, 1.5 * q / p * math.sqrt(-3 / p))) / 3) - 1 / 3
    for _ in range(2):  # what the cosine rounded away
        slope = 3 * u * u + 2 * u - s
        u -= (u * u * (u + 1) - s * (u - 1)) / slope if abs(slope) > 1e-6 * s else 0.0
    return u - 2


@dataclass(frozen=True)
class Power:
    """An average whose weights grow as a power of training time: avg_t = beta avg + (1 - beta) weights, beta = (1 - 1 / t)^(gamma + 1).

    The weight of step i is the integral of (gamma + 1) tau^gamma / t^(gamma + 1) from i - 1 to i, exactly.

    Args:
        length: sigma_rel, 0 < length <= 0.3.

    Raises:
        ValueError: for a length that no power has.

    Source: Karras et al. 2023 (EDM2), arXiv 2312.02696, section 3.1.
    """

    length: float

    def __post_init__(self) -> None:
        gamma_of(self.length)

    @property
    def gamma(self) -> float:
        """The power."""
        return gamma_of(self.length)

    def rate(self, step: int) -> float:
        """1 - beta: the share of the newest weights at optimizer step 1, 2, ..."""
        return 1.0 if step == 1 else -math.expm1((self.gamma + 1) * math.log1p(-1 / step))

    def weights(self, step: int) -> Tensor:
        """Of the steps 1..step."""
        i, power = torch.arange(1, step + 1, dtype=torch.float64), self.gamma + 1
        return (i / step) ** power * -torch.expm1(power * torch.log1p(-1 / i))


@dataclass(frozen=True)
class Exponential:
    """The average of `Ema`: exponential decay of rate min(decay, (1 + step) / (10 + step)).

    The weights before the first step have a share too, of about 10! / step^9 while the rate rises; it is counted to step 1.

    Args:
        decay: per optimizer step, 0 <= decay < 1.

    Raises:
        ValueError: for a decay outside [0, 1).
    """

    decay: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ValueError(f"decay is {self.decay}; allowed: 0 <= decay < 1, such as 0.999")

    def weights(self, step: int) -> Tensor:
        """Of the steps 1..step."""
        i = torch.arange(1, step + 1, dtype=torch.float64)
        decay = torch.clamp((1 + i) / (10 + i), max=self.decay)
        later = torch.cat(
            [decay.flip(0).cumprod(0).flip(0), torch.ones(1, dtype=torch.float64)]
        )  # from step i to the end
        found = (1 - decay) * later[1:]
        found[0] += later[0]
        return found


def inner_product(gamma_a: Tensor, t_a: Tensor, gamma_b: Tensor, t_b: Tensor) -> Tensor:
    """The integral over tau of two power functions (gamma + 1) tau^gamma / t^(gamma + 1), each 0 beyond its own t.

    Args:
        gamma_a, gamma_b: powers, of sum above -1; float64.
        t_a, t_b: where they end, > 0, in steps; float64. All broadcast.

    Source: tau^(gamma_a + gamma_b) integrated to the smaller t. With m the smaller and M the larger one that leaves
    (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) (m / M)^gamma / M, gamma that of M, which can't overflow.
    """
    larger, gamma = torch.maximum(t_a, t_b), torch.where(t_a >= t_b, gamma_a, gamma_b)
    return (
        (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * (torch.minimum(t_a, t_b) / larger) ** gamma / larger
    )


def name_of(length: float) -> str:
    """The name of a power average in checkpoints and files: ema-0.05."""
    return f"ema-{float(length)!r}"


def length_in(name: str) -> float | None:
    """The length that `name_of` wrote, or None for another name."""
    found = re.fullmatch(r"ema-(0\.\d+|\d(?:\.\d+)?e-\d+)", name)
    return None if found is None else float(found[1])

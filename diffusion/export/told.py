"""How the number that our network is told follows from the timestep of a scheduler, and how a first layer absorbs the difference."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..backbones.embedding import LOWEST

__all__ = ["Told", "absorb"]


class Told(NamedTuple):
    """What the network is told, times its time_scale, is sign * timestep + shift.

    sign: 1 or -1. shift: a number.
    """

    sign: float = 1.0
    shift: float = 0.0


def absorb(weight: Tensor, told: Told, room: int, reach_lowest: bool = False) -> Tensor:
    """The weights of the first linear layer of time, for the sinusoid of the timestep in place of that of our number.

    cos and sin of w (sign * t + shift) are a rotation of cos(w t) and sin(w t), so another layer gives the same numbers.

    Args:
        weight: (width, features), of all cosines, then all sines.
        told: how our number follows from the timestep.
        room: numbers in the other sinusoid, a multiple of features: it has all our frequencies and others, which get zeros.
        reach_lowest: see `sinusoid`; with it room must be features.

    Returns:
        float32 (width, room).
    """
    half, spread = weight.shape[1] // 2, room // weight.shape[1]
    steps = torch.arange(half, dtype=torch.float32)
    exponents = steps * math.log(LOWEST) / (half - 1) if reach_lowest else steps * (math.log(LOWEST) / half)
    phase = torch.exp(exponents).double() * told.shift  # the frequencies as the network computes them, in float32
    cos, sin = weight.detach().double().cpu().chunk(2, dim=1)
    turned = (cos * phase.cos() + sin * phase.sin(), told.sign * (sin * phase.cos() - cos * phase.sin()))
    out = torch.zeros(len(weight), room, dtype=torch.float64)
    for k, part in enumerate(turned):
        out[:, k * room // 2 : (k + 1) * room // 2 : spread] = part
    return out.float()

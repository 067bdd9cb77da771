"""Addressed randomness: every Gaussian is a function of (seed, attempt, step, draw), never of what was drawn before.

So picture 7 is the same picture in a batch of 1 or 64, on 1 or 8 processes, and a resumed run draws what the first would have.
Bits come from Philox. Normals are made of them by operations that IEEE 754 rounds exactly (+ - * / sqrt and integer ones;
logarithm and sine are polynomials here), because `torch.log` may differ in the last bit between a vector lane and a remainder
loop, and between devices: the normals have the same bits everywhere, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from numbers import Integral
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from .philox import numbers, words

__all__ = ["Noise", "Seeds", "Stream", "check_seeds", "gaussian", "host_integers", "integers", "permutation", "uniform"]

Seeds: TypeAlias = Tensor | Sequence[int] | range


# numbers made at a time
_CHUNK = 2**16


class Stream(IntEnum):
    """What a draw is for; equal numbers for different uses never meet."""

    SAMPLE = 0
    TRAIN_NOISE = 1
    TRAIN_TIME = 2
    TRAIN_DROPOUT = 3
    ORDER = 4
    AUGMENT = 5
    TRAIN_NETWORK = 6
    BOUND = 7
    BOUND_STEP = 8
    BROWNIAN = 9
    CALIBRATION = 10
    LATENT = 11
    DATA = 12
    VALIDATION = 13
    GRADIENT = 14
    TEXT = 15
    CAPTION = 16
    MEASURE = 17


class Noise(Protocol):
    """A source of Gaussian noise for sampling: the tensor of draw `draw` in step `step`, a (B, ...) batch.

    step -1 is the starting noise. A source that replays (edit-friendly inversion) is a noise source like any other.
    """

    def __call__(self, step: int, draw: int) -> Tensor: ...


def check_seeds(seeds: Seeds) -> Tensor:
    """The seeds as an int64 tensor (B,) on the host.

    Raises:
        ValueError: for seeds that are not whole numbers in [0, 2^63): nothing is wrapped, so no two seeds collide.
    """
    if isinstance(seeds, Tensor):
        if seeds.dtype not in (torch.int64, torch.int32, torch.uint8, torch.int16, torch.int8):
            raise ValueError(f"seeds are {seeds.dtype}; allowed: whole numbers in [0, 2^63)")
        values = seeds.flatten().tolist()
    else:
        try:
            values = list(seeds)
        except TypeError:
            raise ValueError(
                f"seeds is {seeds!r}; allowed: a sequence of seeds, such as [{seeds!r}] or range(16)"
            ) from None
    for v in values:
        if not isinstance(v, Integral) or isinstance(v, bool) or not 0 <= int(v) < 2**63:
            raise ValueError(f"seed {v!r}; allowed: whole numbers in [0, 2^63)")
    return torch.tensor([int(v) for v in values], dtype=torch.int64)


def _address(key: Tensor, *parts: Tensor | int) -> tuple[Tensor, Tensor, Tensor]:
    a, b, c = (p.to(key.device) if isinstance(p, Tensor) else torch.full_like(key, p) for p in parts)
    return a, b, c


def _horner(q: Tensor, coefficients: Sequence[float]) -> Tensor:
    """The polynomial in q, highest power first. Multiply and add are separate operations, each rounded exactly."""
    total = torch.full_like(q, coefficients[0])
    for c in coefficients[1:]:
        total.mul_(q).add_(c)
    return total


_ATANH = [1 / k for k in (17, 15, 13, 11, 9, 7, 5, 3, 1)]
_SINE = [1 / k for k in (-1307674368000, 6227020800, -39916800, 362880, -5040, 120, -6, 1)]
_COSINE = [1 / k for k in (20922789888000, -87178291200, 479001600, -3628800, 40320, -720, 24, -2, 1)]


def _log(u: Tensor) -> Tensor:
    """Natural logarithm of float64 in (0, 1): e log 2 + 2 artanh((m - 1) / (m + 1)), m in [sqrt(1/2), sqrt 2)."""
    m, e = torch.frexp(u)
    small = m < math.sqrt(0.5)
    m, e = torch.where(small, 2 * m, m), (e - small.int()).double()
    s = (m - 1).div_(m.add_(1))
    return _horner(s * s, _ATANH).mul_(s).mul_(2).add_(e.mul_(math.log(2)))


def _turn(word: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi (word + 1/2) / 2^32 - pi/4: the top two bits are the quadrant, the rest an angle in +-pi/4."""
    angle = (word & 0x3FFFFFFF).double().add_(0.5).mul_(math.pi / 2 * 2.0**-30).sub_(math.pi / 4)
    q = angle * angle
    sine, cosine = _horner(q, _SINE).mul_(angle), _horner(q, _COSINE)
    odd, sign = (word & 0x40000000).bool(), 1.0 - (word >> 31).double().mul_(2)
    return torch.where(odd, -sine, cosine).mul_(sign), torch.where(odd, cosine, sine).mul_(sign)


def gaussian(
    seeds: Tensor, attempt: Tensor | int, step: Tensor | int, draw: int, shape: Sequence[int],
    dtype: torch.dtype = torch.float32, stream: Stream = Stream.SAMPLE,
) -> Tensor:  # fmt: skip
    """Standard normals at an address, by Box and Muller.

    Args:
        seeds: int64 (B,) in [0, 2^63); one per sample.
        attempt: which try of the sample, or its index in the data set in training; in [0, 2^32).
        step: which step, -1 for the starting noise; in [-1, 2^32 - 1).
        draw: which tensor of this step, in [0, 2^24).
        shape: shape of one sample, without the batch.
        dtype: of the result; the numbers are made in float64 and rounded once.
        stream: what the draw is for.

    Returns:
        (B, *shape), on the device of `seeds`; the same bits on every device and in every batch.
    """
    count = math.prod(shape)
    address = _address(seeds, int(stream) << 24 | draw, step + 1, attempt)
    flat = torch.empty(len(seeds), count, dtype=dtype, device=seeds.device)
    # chunks bound the memory and, on a CPU, stay in its cache; element i is made of words i//4*4 ... alone, so they show nowhere
    width = min((count + 3) // 4 * 4, _CHUNK)
    rows = max(1, _CHUNK // max(width, 1))
    for i in range(0, len(seeds), rows):
        pick = slice(i, i + rows)
        part = (address[0][pick], address[1][pick], address[2][pick])
        for j in range(0, count, _CHUNK):
            bits = words(seeds[pick], part, min(width, (count - j + 3) // 4 * 4), j).unflatten(1, (-1, 2, 2))
            radius = _log((bits[:, :, 0].double()).add_(0.5).mul_(2.0**-32)).mul_(-2).sqrt_()
            cosine, sine = _turn(bits[:, :, 1])
            normals = torch.stack([cosine.mul_(radius), sine.mul_(radius)], 2).flatten(1)
            flat[pick, j : j + _CHUNK] = normals[:, : count - j]
    return flat.view(len(seeds), *shape)


def uniform(
    seeds: Tensor, index: Tensor | int, step: Tensor | int, count: int, stream: Stream, draw: int = 0
) -> Tensor:
    """Uniform float64 numbers in (0, 1) at an address: (B, count); see `gaussian` for the arguments."""
    bits = words(seeds, _address(seeds, int(stream) << 24 | draw, step + 1, index), count)
    return (bits.double() + 0.5) * 2.0**-32


def integers(seeds: Tensor, index: Tensor | int, step: Tensor | int, count: int, stream: Stream) -> Tensor:
    """Uniform integers in [0, 2^32) at an address: int64 (B, count); see `gaussian` for the arguments."""
    return words(seeds, _address(seeds, int(stream) << 24, step + 1, index), count)


def host_integers(seed: int, index: int, step: int, count: int, stream: Stream) -> list[int]:
    """Those of `integers` of one seed, as Python's numbers, without a tensor."""
    return numbers(seed, (int(stream) << 24, step + 1, index), count)


def permutation(seed: int, epoch: int, size: int) -> Tensor:
    """A random order of range(size) that is a function of (seed, epoch): int64 (size,), on the host.

    Sorts 62 random bits per element; equal keys (probability size^2 / 2^63) keep their order.
    """
    bits = words(torch.tensor([seed]), _address(torch.tensor([seed]), int(Stream.ORDER) << 24, epoch, 0), 2 * size)
    keys = (bits[0, :size] << 30) ^ bits[0, size:]
    return torch.argsort(keys, stable=True)

"""Philox4x32-10: random bits as a pure function of a key and a counter, in torch integer arithmetic.

Wrapping int64 products and masks only, so the bits are the same on every device and for every batch shape.
Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (the Random123 vectors are in the tests).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["numbers", "philox", "words"]

_MASK = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85


def _high_low(a: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """Both halves of the 64-bit product of 32-bit words; the product wraps, its bits do not care."""
    product = a * multiplier
    return (product >> 32).bitwise_and_(_MASK), product.bitwise_and_(_MASK)


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four 32-bit words of ten rounds of Philox.

    Args:
        counter: four int64 tensors that broadcast together, each in [0, 2^32).
        key: two int64 tensors that broadcast with them, each in [0, 2^32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _high_low(c0, _MULTIPLIERS[0])
        high1, low1 = _high_low(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1.bitwise_xor_(c1).bitwise_xor_(k0), low1, high0.bitwise_xor_(c3).bitwise_xor_(k1), low0
        k0, k1 = (k0 + _KEY_STEPS[0]) & _MASK, (k1 + _KEY_STEPS[1]) & _MASK
    return c0, c1, c2, c3


def numbers(key: int, address: tuple[int, int, int], count: int) -> list[int]:
    """The words of one stream as Python's numbers: those of `words`, some hundred times as fast where few are wanted.

    Args:
        key: in [0, 2^63).
        address: three numbers in [0, 2^32) that name the stream.
        count: words, >= 0.
    """
    found: list[int] = []
    for block in range((count + 3) // 4):
        (c0, c1, c2, c3), k0, k1 = (block, *address), key & _MASK, key >> 32 & _MASK
        for _ in range(10):
            first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
            c0, c1, c2, c3 = second >> 32 ^ c1 ^ k0, second & _MASK, first >> 32 ^ c3 ^ k1, first & _MASK
            k0, k1 = k0 + _KEY_STEPS[0] & _MASK, k1 + _KEY_STEPS[1] & _MASK
        found += [c0, c1, c2, c3]
    return found[:count]


def words(key: Tensor, address: tuple[Tensor, Tensor, Tensor], count: int, first: int = 0) -> Tensor:
    """Random 32-bit words of each addressed stream.

    Args:
        key: int64 (B,), each in [0, 2^63).
        address: three int64 tensors (B,), each in [0, 2^32), that name the stream.
        count: words per stream, >= 0.
        first: where in the stream to begin, a multiple of 4; first + count < 2^34.

    Returns:
        int64 (B, count), each word in [0, 2^32).
    """
    blocks = torch.arange(first // 4, (first + count + 3) // 4, dtype=torch.int64, device=key.device)[None]
    a, b, c = (v[:, None] for v in address)
    four = philox((blocks, a, b, c), ((key & _MASK)[:, None], (key >> 32 & _MASK)[:, None]))
    return torch.stack(four, dim=2).flatten(1)[:, :count]

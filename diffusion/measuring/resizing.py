"""How pictures are brought to the size that a network sees: a Frechet distance means nothing without it."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Resizing", "as_rgb", "resized", "resizing_in_words"]

Resizing = Literal[
    "tensorflow1", "pillow", "pillow_bytes", "torch", "antialiased_bilinear", "antialiased_bicubic", "none"
]

_WORDS = {
    "tensorflow1": "bilinear as TensorFlow 1's, without antialiasing and half-pixel centres",
    "pillow": "bicubic as Pillow's on floats, antialiased, cut to 0..255",
    "pillow_bytes": "bicubic as Pillow's on bytes, antialiased",
    "torch": "bilinear as torch's, without antialiasing",
    "antialiased_bilinear": "bilinear as torch's, antialiased",
    "antialiased_bicubic": "bicubic as torch's, antialiased, cut to 0..255",
}
_DIGITS = 22  # of Pillow's fixed point: 32 less eight of a byte and two for sums beyond it


def resizing_in_words(how: Resizing, size: int) -> str:
    """What an extractor says of how it resizes (its `resize`).

    Args:
        how: see `resized`.
        size: height and width that its network sees.

    Raises:
        ValueError: for another `how`.
    """
    _check(how)
    return f"none, pictures must be {size}x{size}" if how == "none" else f"to {size}x{size}, {_WORDS[how]}"


def _check(how: str) -> None:
    if how not in get_args(Resizing):
        raise ValueError(f"resizing is {how!r}; allowed: {', '.join(get_args(Resizing))}")


def as_rgb(pictures: Tensor, size: int, how: Resizing) -> Tensor:
    """Pictures as a network of colours sees them: resized, a grey one three times.

    Args:
        pictures: uint8 (N, C, H, W), C of 1 or 3.
        size, how: as of `resized`.

    Returns:
        float32 (N, 3, size, size), 0 to 255.

    Raises:
        ValueError: as `resized`.
    """
    return resized(pictures.to(torch.float32), size, how).expand(-1, 3, -1, -1)


def resized(x: Tensor, size: int, how: Resizing) -> Tensor:
    """Pictures of size x size pixels; one that is not square is squeezed, not cut.

    Pictures of that size are returned as they are. "tensorflow1" and "pillow_bytes" have the bits of those libraries, "pillow" all but the
    last one where a compiler fuses what it adds; what else is in the batch changes nothing. The width is resized first, as all Pillows did
    that published numbers were made with; Pillow 13 begins with the height where that shrinks by more than twice as many pixels.

    Args:
        x: float32 (N, C, H, W), 0 to 255.
        size: height and width, >= 1.
        how: "tensorflow1": bilinear without antialiasing, pixel i read at i * H / size, what the original FID was measured with. "pillow":
            bicubic with antialiasing, each channel as floats, as clean-fid does. "pillow_bytes": the same on bytes, rounded after each
            axis, which CLIP and DINOv2 are commonly fed with. "torch": bilinear with half-pixel centres and no antialiasing, as pytorch-fid
            does. "antialiased_bilinear", "antialiased_bicubic": torch's, with antialiasing. "none": refuses what is not of that size.

    Returns:
        float32 (N, C, size, size), 0 to 255.

    Raises:
        ValueError: for another `how`, and pictures of another size with "none".

    Source: Parmar, Zhang & Zhu 2022 (2104.11222), on what each of them does to the distance.
    """
    _check(how)
    if tuple(x.shape[-2:]) == (size, size):
        return x
    if how == "tensorflow1":
        return _tensorflow1(_tensorflow1(x, size, -1), size, -2)
    if how == "pillow":
        return _pillow(_pillow(x, size, -1), size, -2).clamp(0, 255)
    if how == "pillow_bytes":
        return _pillow_bytes(_pillow_bytes(x.round().long(), size, -1), size, -2).to(torch.float32)
    if how == "torch":
        return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)
    if how == "antialiased_bilinear":
        return F.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
    if how == "antialiased_bicubic":
        return F.interpolate(x, (size, size), mode="bicubic", align_corners=False, antialias=True).clamp(0, 255)
    raise ValueError(
        f"pictures are {x.shape[-2]}x{x.shape[-1]}, and the network sees {size}x{size}; with resizing none they must be of that size: "
        f"allowed besides: {', '.join(get_args(Resizing)[:-1])}"
    )


def _tensorflow1(x: Tensor, size: int, axis: int) -> Tensor:
    """One axis; every product and sum is rounded to float32 where TensorFlow rounds it."""
    length = x.shape[axis]
    at = torch.arange(size, dtype=torch.float32, device=x.device) * torch.tensor(length / size, dtype=torch.float32)
    low = at.long().clamp_max(length - 1)
    high = (low + 1).clamp_max(length - 1)
    part = (at - low).view(-1, *[1] * (-axis - 1))
    first = x.index_select(axis, low)
    return first + (x.index_select(axis, high) - first) * part


def _cubic(x: float) -> float:
    """Keys' kernel with a = -1/2, which Pillow uses; 0 from 2 on."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * -0.5 if x < 2 else 0.0


def _taps(length: int, size: int) -> tuple[Tensor, Tensor]:
    """Of every new pixel the first old one that it is made of, int64 (size,), and the weights from there on, float64 (size, taps)."""
    scale = length / size
    stretch = max(scale, 1.0)  # a kernel as wide as what one new pixel covers: antialiasing
    starts: list[int] = []
    rows: list[list[float]] = []
    for i in range(size):
        centre = (i + 0.5) * scale
        start = max(int(centre - 2 * stretch + 0.5), 0)
        end = min(int(centre + 2 * stretch + 0.5), length)
        row = [_cubic((j - centre + 0.5) * (1 / stretch)) for j in range(start, end)]
        total = 0.0
        for weight in row:  # one by one: what `sum` adds is rounded otherwise
            total += weight
        starts.append(start)
        rows.append([weight / total for weight in row])
    taps = max(map(len, rows))
    return torch.tensor(starts), torch.tensor([r + [0.0] * (taps - len(r)) for r in rows], dtype=torch.float64)


def _pillow(x: Tensor, size: int, axis: int) -> Tensor:
    """One axis: float64 sums over the taps in their order, then float32, as Pillow does for images of floats (mode F)."""
    if x.shape[axis] == size:
        return x
    here = x.cpu() if x.device.type == "mps" else x  # it has no float64
    starts, weights = _taps(x.shape[axis], size)
    return _sums(here.double(), starts, weights, axis).to(torch.float32).to(x.device)


def _pillow_bytes(x: Tensor, size: int, axis: int) -> Tensor:
    """One axis of whole numbers: weights of 22 binary digits, rounded away from zero at halves, and sums that are rounded and cut."""
    if x.shape[axis] == size:
        return x
    starts, weights = _taps(x.shape[axis], size)
    whole = (weights * 2**_DIGITS + torch.where(weights < 0, -0.5, 0.5)).trunc().long()
    return ((_sums(x, starts, whole, axis) + 2 ** (_DIGITS - 1)) >> _DIGITS).clamp(0, 255)


def _sums(x: Tensor, starts: Tensor, weights: Tensor, axis: int) -> Tensor:
    """The weighted sums of the pixels that each new one is made of, tap by tap."""
    starts, weights = starts.to(x.device), weights.to(x.device)
    last = x.shape[axis] - 1
    total: Tensor | None = None
    for tap in range(weights.shape[1]):
        part = x.index_select(axis, (starts + tap).clamp_max(last)) * weights[:, tap].view(-1, *[1] * (-axis - 1))
        total = part if total is None else total + part
    assert total is not None
    return total

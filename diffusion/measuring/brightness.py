"""How bright pictures are, and how much that varies: what a schedule that never reaches pure noise gets wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .line import kolmogorov_smirnov, wasserstein

__all__ = ["Brightness", "brightness", "brightness_of"]


@dataclass(frozen=True)
class Brightness:
    """Mean brightness per picture, in [0, 1] from black to white, of fakes and of real pictures.

    Args:
        fake_mean, real_mean: means over the pictures.
        fake_std, real_std: standard deviations over the pictures.
        ratio: fake_std / real_std: 1 where brightness varies as it should, below 1 where all is of medium brightness; nan where all
            real pictures are equally bright.
        ratio_error: standard error of the ratio, by the fourth moments; 0 where all fakes are equally bright.
        fake_low, fake_high, real_low, real_high: 1 % and 99 % quantiles.
        distance: Wasserstein-1 between both distributions, in units of brightness.
        ks: Kolmogorov and Smirnov's distance between both, 0 to 1.
        fake_counts, real_counts: histograms with bins of equal width from 0 to 1.
    """

    fake_mean: float
    real_mean: float
    fake_std: float
    real_std: float
    ratio: float
    ratio_error: float
    fake_low: float
    fake_high: float
    real_low: float
    real_high: float
    distance: float
    ks: float
    fake_counts: tuple[int, ...]
    real_counts: tuple[int, ...]


def brightness(fake_pixels: Tensor, real_pixels: Tensor, bins: int = 32) -> Brightness:
    """Compare the mean brightness of pictures, one number each, between two sets.

    Args:
        fake_pixels, real_pixels: uint8 (N, C, H, W) and (M, C, H, W), N, M >= 2; sizes may differ. Colours count alike.
        bins: of the histograms, >= 1.

    Raises:
        ValueError: for another shape or dtype.

    Source: Lin et al. 2024, arXiv 2305.08891, section 3.1 (without zero terminal SNR the mean brightness leaks, and stays medium).
    """
    return brightness_of(_means("fake_pixels", fake_pixels), _means("real_pixels", real_pixels), bins)


def brightness_of(fake: Tensor, real: Tensor, bins: int = 32) -> Brightness:
    """The same of pictures whose mean brightness is known.

    Args:
        fake, real: (N,) and (M,), one number per picture in [0, 1], N, M >= 2.
        bins: of the histograms, >= 1.

    Raises:
        ValueError: for another shape or range.
    """
    for name, values in (("fake", fake), ("real", real)):
        if values.ndim != 1 or len(values) < 2 or not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(
                f"{name} has shape {tuple(values.shape)}; allowed: (N,) numbers in [0, 1], N >= 2; bytes / 255"
            )
    fake, real = fake.double().cpu(), real.double().cpu()
    if bins < 1:
        raise ValueError(f"bins is {bins}; allowed: >= 1")
    (a, da), (b, db) = _std(fake), _std(real)
    ratio = a / b if b > 0 else math.nan
    edges = torch.tensor([0.01, 0.99], dtype=torch.float64)
    (fake_low, fake_high), (real_low, real_high) = (torch.quantile(v, edges).tolist() for v in (fake, real))
    counts = [
        tuple(int(c) for c in (v * bins).long().clamp(max=bins - 1).bincount(minlength=bins)) for v in (fake, real)
    ]
    return Brightness(
        float(fake.mean()), float(real.mean()), a, b, ratio, ratio * math.hypot(da, db), fake_low, fake_high, real_low, real_high,
        float(wasserstein(fake, real)), kolmogorov_smirnov(fake, real), counts[0], counts[1],
    )  # fmt: skip


def _means(name: str, pixels: Tensor) -> Tensor:
    """float64 (N,) in [0, 1]."""
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or len(pixels) < 2 or pixels[0].numel() < 1:
        raise ValueError(
            f"{name} is {pixels.dtype} {tuple(pixels.shape)}; allowed: uint8 (N, C, H, W) with N >= 2; as_bytes makes bytes of [-1, 1]"
        )
    flat = pixels.flatten(1)
    return flat.sum(1, dtype=torch.int64).double() / (255 * flat.shape[1])


def _std(values: Tensor) -> tuple[float, float]:
    """Standard deviation, and its relative standard error, sqrt((kurtosis - 1) / 4 (n - 1)).

    The kurtosis of few numbers is too small by (n - 1) / (n + 1), as of Gaussian ones; of two it would always be 1, and the error 0.
    """
    std, centred = float(values.std()), values - values.mean()
    square = float(centred.square().mean())
    if square == 0:
        return 0.0, 0.0
    n = len(values)
    kurtosis = float(centred.pow(4).mean()) / square**2 * (n + 1) / (n - 1)
    return std, math.sqrt((kurtosis - 1) / (4 * (n - 1)))

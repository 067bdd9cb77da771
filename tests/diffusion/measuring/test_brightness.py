"""Brightness: exact on flat pictures, its spread and errors against what was drawn."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.diffusion.measuring.brightness import brightness, brightness_of


def flat(levels: Tensor, channels: int = 3) -> Tensor:
    """Pictures of one level of 0 to 255 each."""
    return levels.round().clamp(0, 255).to(torch.uint8)[:, None, None, None].expand(-1, channels, 4, 5).contiguous()


def drawn(n: int, std: float, seed: int) -> Tensor:
    return flat(127.5 + std * torch.randn(n, generator=torch.Generator().manual_seed(seed)))


def test_of_flat_pictures_by_hand() -> None:
    found = brightness(flat(torch.tensor([0.0, 255.0])), flat(torch.tensor([51.0, 102.0, 153.0, 204.0]), 1), bins=5)
    assert (found.fake_mean, found.real_mean) == pytest.approx((0.5, 0.5))
    assert found.fake_std == pytest.approx(math.sqrt(0.5))
    assert found.real_std == pytest.approx(math.sqrt(0.2 / 3))
    assert found.ratio == pytest.approx(math.sqrt(7.5))
    # 0.2 and 0.4 from 0, 0.6 and 0.8 from 1
    assert found.distance == pytest.approx(0.3)
    assert found.ks == pytest.approx(0.5)
    assert (found.fake_low, found.fake_high) == pytest.approx((0.01, 0.99))
    assert (found.real_low, found.real_high) == pytest.approx((0.206, 0.794))
    assert found.fake_counts == (1, 0, 0, 0, 1)
    assert found.real_counts == (0, 1, 1, 1, 1)


def test_a_picture_counts_by_the_mean_of_all_its_pixels() -> None:
    half = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    half[:, 0] = 255
    found = brightness(half, half)
    assert found.fake_mean == pytest.approx(1 / 3, rel=1e-12)
    assert math.isnan(found.ratio)
    large = torch.full((2, 3, 300, 300), 255, dtype=torch.uint8)  # a sum beyond what float32 counts
    assert brightness(large, large).real_mean == 1


def test_of_means_that_are_known_is_the_same() -> None:
    x, y = drawn(30, 12, 1), drawn(40, 40, 2)
    means = [p.double().mean((1, 2, 3)) / 255 for p in (x, y)]
    assert brightness_of(*means).distance == pytest.approx(brightness(x, y).distance, rel=1e-12)
    assert brightness_of(*means).ratio == pytest.approx(brightness(x, y).ratio, rel=1e-9)


def test_pictures_of_medium_brightness_have_a_ratio_below_one() -> None:
    found = brightness(drawn(1000, 12, 1), drawn(1000, 40, 2))
    assert found.ratio == pytest.approx(0.3, abs=0.03)
    # between Gaussians of one mean: E|z| times the difference of deviations
    assert found.distance == pytest.approx(28 / 255 * math.sqrt(2 / math.pi), rel=0.1)
    assert 0 < found.real_low < found.fake_low < found.fake_high < found.real_high < 1
    same = brightness(drawn(1000, 40, 1), drawn(1000, 40, 2))
    assert abs(same.ratio - 1) < 4 * same.ratio_error
    assert same.distance < 0.02
    assert same.ks < 1.9 * math.sqrt(2 / 1000)


def test_the_ratios_error_is_its_spread() -> None:
    found = [brightness(drawn(60, 20, 2 * i), drawn(90, 40, 2 * i + 1)) for i in range(300)]
    ratios = torch.tensor([f.ratio for f in found])
    said = math.sqrt(sum(f.ratio_error**2 for f in found) / 300)
    assert said == pytest.approx(float(ratios.std()), rel=0.12)


def test_few_pictures_are_not_sure_of_the_ratio() -> None:
    """Of two pictures each the fourth moment is the second squared, whatever they are, and said an error of 0."""
    found = [brightness(drawn(n, 20, 2 * i), drawn(n, 40, 2 * i + 1)) for n in (2, 10) for i in range(300)]
    assert found[0].ratio_error == pytest.approx(found[0].ratio * math.sqrt(2 * 2 / 4), rel=1e-9)
    held = [abs(f.ratio - 0.5) <= 1.96 * f.ratio_error for f in found]
    assert sum(held[:300]) / 300 > 0.7
    assert sum(held[300:]) / 300 > 0.88


def test_mistakes_are_refused() -> None:
    x = drawn(3, 10, 0)
    with pytest.raises(ValueError, match=r"real_pixels is torch\.float32"):
        brightness(x, x.float())
    with pytest.raises(ValueError, match=r"fake_pixels is torch\.uint8"):
        brightness(x[:1], x)
    with pytest.raises(ValueError, match="bins is 0"):
        brightness(x, x, 0)
    with pytest.raises(ValueError, match=r"real has shape \(3,\); allowed: \(N,\) numbers in"):
        brightness_of(torch.ones(2), torch.tensor([0.0, 255.0, 3.0]))

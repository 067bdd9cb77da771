"""Resizing: TensorFlow 1 against its formula, Pillow against Pillow, and that a picture is resized alone."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sfumato.diffusion.measuring.resizing import Resizing, as_rgb, resized, resizing_in_words

SIZES = [(8, 8), (32, 32), (48, 64), (150, 299), (310, 400), (1, 1)]
ALL = [how for how in get_args(Resizing) if how != "none"]


def pictures(height: int, width: int, count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=torch.Generator().manual_seed(height)).float()


def row(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).expand(1, 1, len(values), len(values))


def test_tensorflow_reads_pixel_i_at_i_times_the_scale() -> None:
    """By hand: four pixels to eight are read at 0, 1/2, 1, ..., the last ones at the border; eight to three at 0, 8/3, 16/3."""
    up = resized(row([0, 10, 20, 30]), 8, "tensorflow1")
    assert up[0, 0, 0].tolist() == [0, 5, 10, 15, 20, 25, 30, 30]
    down = resized(row([0, 1, 2, 3, 40, 50, 60, 70]), 3, "tensorflow1")
    torch.testing.assert_close(down[0, 0, 0], torch.tensor([0, 8 / 3, 50 + 10 / 3]))
    # torch's, which pytorch-fid resizes with, is another one
    assert resized(row([0, 10, 20, 30]), 8, "torch")[0, 0, 0].tolist() == [0, 2.5, 7.5, 12.5, 17.5, 22.5, 27.5, 30]


@pytest.mark.parametrize("shape", SIZES)
def test_tensorflow_by_its_formula(shape: tuple[int, int]) -> None:
    """resize_bilinear_op.cc, pixel by pixel in float64, at some pixels of a picture."""
    x, size = pictures(*shape, count=1), 299
    found = resized(x, size, "tensorflow1")[0, 0].double()
    height, width = shape
    for i in range(0, size, 23):
        for j in range(0, size, 29):
            y, z = i * height / size, j * width / size
            top, left = math.floor(y), math.floor(z)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            a, b, c, d = (float(x[0, 0, r, k]) for r, k in ((top, left), (top, right), (bottom, left), (bottom, right)))
            upper, lower = a + (b - a) * (z - left), c + (d - c) * (z - left)
            assert float(found[i, j]) == pytest.approx(upper + (lower - upper) * (y - top), abs=6e-3)


@pytest.mark.parametrize("size", [224, 299])
@pytest.mark.parametrize("shape", SIZES)
def test_pillow_is_pillow(shape: tuple[int, int], size: int) -> None:
    x = pictures(*shape, count=1)
    channels = [Image.fromarray(c.numpy()).resize((size, size), Image.Resampling.BICUBIC) for c in x[0]]
    floats = torch.from_numpy(np.stack([np.asarray(c) for c in channels])).clamp(0, 255)
    # 1.6e-5 is the last bit of a number of 128 to 255
    torch.testing.assert_close(resized(x, size, "pillow")[0], floats, rtol=0, atol=1.6e-5)
    image = Image.fromarray(x[0].permute(1, 2, 0).to(torch.uint8).numpy())
    whole = np.array(image.resize((size, size), Image.Resampling.BICUBIC))
    assert torch.equal(resized(x, size, "pillow_bytes")[0].to(torch.uint8), torch.from_numpy(whole).permute(2, 0, 1))


@pytest.mark.parametrize("how", ALL)
def test_what_has_the_size_already_and_what_is_flat_stay_as_they_are(how: Resizing) -> None:
    x = pictures(48, 48)
    assert torch.equal(resized(x, 48, how), x)
    flat = torch.full((1, 1, 20, 31), 77.0)
    torch.testing.assert_close(resized(flat, 48, how), torch.full((1, 1, 48, 48), 77.0), rtol=0, atol=1e-4)
    # bicubic kernels are negative in places: what leaves the range is cut
    edges = resized((pictures(9, 9) > 127).float() * 255, 48, how)
    assert float(edges.min()) >= 0
    assert float(edges.max()) <= 255


@pytest.mark.parametrize("how", ALL)
def test_a_picture_is_resized_alone_and_a_grey_one_is_every_channel(how: Resizing) -> None:
    x = pictures(31, 20)
    together = resized(x, 48, how)
    assert torch.equal(together, torch.cat([resized(one[None], 48, how) for one in x]))
    grey = x[:, :1].to(torch.uint8)
    assert torch.equal(as_rgb(grey, 48, how), together[:, :1].expand(-1, 3, -1, -1))
    assert torch.equal(as_rgb(x.to(torch.uint8), 48, how), together)


def test_antialiasing_is_where_it_says() -> None:
    """Columns of black and white, shrunk four times: with antialiasing all is grey, without it some are neither."""
    stripes = row([0.0, 255.0] * 32)
    for how in ALL:
        spread = float(resized(stripes, 16, how)[..., 2:-2].std())
        if how in ("tensorflow1",):
            assert float(resized(stripes, 16, how).max()) == 0  # it reads every fourth column, all black
        elif how != "torch":  # which reads between two columns here
            assert spread < 1, how


def test_refusals_and_words() -> None:
    with pytest.raises(ValueError, match="resizing is 'lanczos'; allowed: tensorflow1, pillow, "):
        resized(pictures(8, 8), 9, "lanczos")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="pictures are 8x8, and the network sees 9x9; with resizing none"):
        resized(pictures(8, 8), 9, "none")
    assert torch.equal(resized(pictures(8, 8), 8, "none"), pictures(8, 8))
    assert "299x299" in resizing_in_words("none", 299)
    assert len({resizing_in_words(how, 9) for how in get_args(Resizing)}) == len(get_args(Resizing))

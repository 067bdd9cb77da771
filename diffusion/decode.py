"""From an image file to numbers: every kind of pixel by a defined conversion, and never more pixels than allowed."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Literal, get_args

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

__all__ = ["MAX_PIXELS", "Decoder", "Resample", "Resize"]

Resize = Literal["centre", "adm"]
Resample = Literal["lanczos", "bicubic", "box"]

MAX_PIXELS = 89_478_485  # where Pillow begins to warn
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(frozen=True)
class Decoder:
    """How an image file becomes a picture of one size. Turned as its EXIF says, cropped about its centre, resized.

    Transparent pixels are laid on black; of 16-bit numbers the upper 8 are used; palettes, CMYK and other colours are converted as
    Pillow does, without colour profiles; floating-point pixels are refused, since nothing says their range.

    Args:
        size: pixels, height and width: one number, or the two.
        channels: 1 (grey) or 3 (RGB).
        resize: "centre": the largest part in the middle that has the shape, resized at once. "adm": halved by averaging while it is twice
            too large, resized, then cropped; square only.
        resample: the filter of the resizing; "adm" takes "bicubic".
        max_pixels: that a file may have, known from its header before anything is decoded. Above twice the default Pillow itself refuses.

    Raises:
        ValueError: for other values.

    Source: "adm": Dhariwal & Nichol 2021 (2105.05233), center_crop_arr of the released code, which EDM took over.
    """

    size: int | Sequence[int]
    channels: int
    resize: Resize = "centre"
    resample: Resample = "lanczos"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        sides = [self.size, self.size] if isinstance(self.size, int) else list(self.size)
        if len(sides) != 2 or not all(isinstance(n, int) and n >= 1 for n in sides) or self.channels not in (1, 3):
            raise ValueError(
                f"size is {self.size!r} and channels is {self.channels!r}; allowed: size >= 1 (or [height, width]), channels 1 or 3"
            )
        for name, given, allowed in (("resize", self.resize, Resize), ("resample", self.resample, Resample)):
            if given not in get_args(allowed):
                raise ValueError(f"{name} is {given!r}; allowed: {', '.join(map(repr, get_args(allowed)))}")
        if self.resize == "adm" and (sides[0] != sides[1] or self.resample != "bicubic"):
            raise ValueError(
                f"resize is 'adm' with size {self.size} and resample {self.resample!r}; allowed: a square, and resample 'bicubic'"
            )
        if self.max_pixels < 1:
            raise ValueError(f"max_pixels is {self.max_pixels}; allowed: >= 1")

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        height, width = (self.size, self.size) if isinstance(self.size, int) else self.size
        return self.channels, height, width

    @property
    def words(self) -> str:
        """What a picture depends on besides its file, for a fingerprint."""
        _, height, width = self.shape
        size = f"{height}" if height == width else f"{height}x{width}"
        usual = (self.resize, self.resample) == ("centre", "lanczos")  # left out, so that earlier fingerprints hold
        return f"{size} {self.channels}" + ("" if usual else f" {self.resize} {self.resample}")

    def read(self, file: str | BinaryIO, name: str) -> Tensor:
        """The picture in a file.

        Args:
            file: path, or an open file.
            name: of the file, for messages.

        Returns:
            uint8 (channels, height, width).

        Raises:
            ValueError: with the name, for what can't be decoded, or has more pixels than allowed.
        """
        try:
            with Image.open(file) as image:  # reads the header alone
                if image.width * image.height > self.max_pixels:
                    raise ValueError(
                        f"it has {image.width} x {image.height} pixels, more than max_pixels, {self.max_pixels:,}"
                    )
                return self.picture(image)
        except Exception as error:  # on damaged files decoders fail in any way
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED):
                raise  # the machine's fault, not the file's
            # Pillow names the object that it was given, which is another one each time
            unknown = isinstance(error, UnidentifiedImageError)
            what = "no image format that Pillow knows" if unknown else str(error).rstrip(".") or type(error).__name__
            raise ValueError(f"{name} can't be read as an image: {what}; mend or remove it") from error

    def verify(self, file: str | BinaryIO, name: str) -> None:
        """Compare a file's own checksums, where its format has some, which decoding does not do.

        Args:
            file, name: as of `read`.

        Raises:
            ValueError: with the name, for a file that was damaged.
        """
        try:
            with Image.open(file) as image:
                image.verify()
        except Exception as error:
            if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _EXHAUSTED):
                raise
            raise ValueError(f"{name} is damaged: {str(error) or type(error).__name__}; mend or remove it") from error

    def picture(self, image: Image.Image) -> Tensor:
        """An opened image at this size.

        Returns:
            uint8 (channels, height, width).

        Raises:
            ValueError: for pixels without a defined range.
        """
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            raise ValueError("its pixels are floating-point numbers (mode F) of unknown range; store 8 or 16 bits")
        if image.mode.startswith("I"):
            image = _upper_bits(image)
        if "A" in image.getbands() or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        image = image.convert("L" if self.channels == 1 else "RGB")
        image = self._halved(image) if self.resize == "adm" else self._centred(image)
        _, height, width = self.shape
        return torch.from_numpy(np.array(image)).view(height, width, self.channels).permute(2, 0, 1)

    @cached_property
    def _filter(self) -> Image.Resampling:
        return Image.Resampling[self.resample.upper()]

    def _centred(self, image: Image.Image) -> Image.Image:
        _, height, width = self.shape
        wide, high = image.size
        if wide * height > high * width:
            wide = max(1, high * width // height)
        else:
            high = max(1, wide * height // width)
        left, top = (image.width - wide) // 2, (image.height - high) // 2
        box = (left, top, left + wide, top + high)
        return image.resize((width, height), self._filter, box=box)

    def _halved(self, image: Image.Image) -> Image.Image:
        _, size, _ = self.shape
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        return image.crop((left, top, left + size, top + size))


def _upper_bits(image: Image.Image) -> Image.Image:
    """A 16-bit image in 8 bits; Pillow's own conversion would cut the numbers off at 255."""
    numbers = np.asarray(image)
    if numbers.min() < 0 or numbers.max() > 65535:
        raise ValueError(
            f"its pixels run from {numbers.min()} to {numbers.max()} (mode {image.mode}); allowed: 0 to 65535"
        )
    return Image.fromarray((numbers >> 8).astype(np.uint8))

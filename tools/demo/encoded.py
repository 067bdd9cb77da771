"""Pictures as text within the page: nothing is written to a disk, and nothing has an address that another visitor could guess."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from typing import Any, Literal

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ...diffusion.images import KEY, to_pixels
from ...schedules.plain_json import to_json

__all__ = ["as_image", "data_uri", "encode"]


def as_image(x: Tensor) -> Image.Image:
    """A picture (C, H, W) in [-1, 1], cut to it."""
    pixels = to_pixels(x)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def encode(
    picture: Image.Image | Tensor, settings: Mapping[str, Any] | None = None, kind: Literal["png", "webp"] = "png"
) -> bytes:
    """The bytes of a file.

    Args:
        picture: or (C, H, W) in [-1, 1].
        settings: how it was made, held by a PNG so that it can be read back.
        kind: png, without loss; webp, smaller, for previews.
    """
    image = as_image(picture) if isinstance(picture, Tensor) else picture
    buffer = io.BytesIO()
    if kind == "webp":
        image.save(buffer, format="WEBP", quality=80, method=0)
        return buffer.getvalue()
    info = PngInfo()
    if settings is not None:
        info.add_itxt(KEY, json.dumps(to_json(settings), sort_keys=True, allow_nan=False))
    image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def data_uri(
    picture: Image.Image | Tensor, settings: Mapping[str, Any] | None = None, kind: Literal["png", "webp"] = "png"
) -> str:
    """The address of a picture that is its own content; see `encode`."""
    return f"data:image/{kind};base64,{base64.b64encode(encode(picture, settings, kind)).decode()}"

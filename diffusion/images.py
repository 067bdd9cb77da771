"""Pictures: tensors to PNG files that say how they were made."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..schedules.plain_json import from_json, to_json
from .whole_file import whole_file

__all__ = ["KEY", "check_whole", "contact_sheet", "read_picture", "read_settings", "save_png", "to_pixels"]

KEY = "sfumato"
"""The PNG text chunk that holds the settings, as JSON."""


def to_pixels(x: Tensor) -> np.ndarray:
    """Bytes of images in [-1, 1].

    Args:
        x: (N, C, H, W) or (C, H, W) with C of 1 or 3; values outside [-1, 1] are cut.

    Returns:
        uint8 (..., H, W, C).

    Raises:
        ValueError: for another number of channels, or numbers that are not finite.
    """
    if x.shape[-3] not in (1, 3):
        raise ValueError(f"a picture has {x.shape[-3]} channels; allowed: 1 (grey) or 3 (RGB)")
    if not bool(torch.isfinite(x).all()):
        raise ValueError("a picture holds numbers that are not finite")
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def save_png(path: Path, image: Image.Image | Tensor, settings: Mapping[str, Any] | None) -> None:
    """Write a PNG whose metadata say how it was made; it is there whole, or not at all.

    Args:
        path: where to; folders are made.
        image: a picture, or a tensor (C, H, W) in [-1, 1].
        settings: JSON-able; seed, steps, sampler, ...; read back by `read_settings`. None: no metadata.
    """
    if isinstance(image, Tensor):
        image = _image(to_pixels(image))
    info = PngInfo()
    if settings is not None:
        info.add_itxt(KEY, json.dumps(to_json(settings), sort_keys=True, allow_nan=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=info)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings that `save_png` wrote.

    Raises:
        ValueError: for a picture without them.
    """
    try:
        with Image.open(path) as image:
            text = getattr(image, "text", {}).get(KEY)
        settings = None if text is None else from_json(json.loads(text))
    except (ValueError, RecursionError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} can't be read: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} carries no settings of Sfumato")
    return settings


def check_whole(path: Path) -> None:
    """Refuse a file that is damaged: each part of a PNG has a checksum.

    Raises:
        OSError, SyntaxError: for one that is.
    """
    with Image.open(path) as image:
        image.verify()


def read_picture(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """A picture that `save_png` wrote, (C, H, W) in [-1, 1] in steps of 2 / 255, and its settings.

    Raises:
        OSError, SyntaxError: for a file that is damaged: each part of a PNG has a checksum.
        ValueError: for a picture without settings.
    """
    check_whole(path)
    with Image.open(path) as image:
        pixels = torch.from_numpy(np.array(image))
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    return pixels.movedim(-1, 0).float() / 127.5 - 1, read_settings(path)


def contact_sheet(
    rows: Sequence[Tensor], titles: Sequence[str] = (), captions: Sequence[Sequence[str]] = (), tile: int = 64,
    kept: Sequence[Tensor] = (), groups: Sequence[tuple[str, int]] = (), marked: Sequence[Tensor] = (),
) -> Image.Image:  # fmt: skip
    """Images in labelled rows.

    Args:
        rows: each (N, C, H, W) in [-1, 1].
        titles: one per row, written at its left.
        captions: per row, one per image, written below it.
        tile: size of an image on the sheet in pixels; small images are enlarged by whole pixels.
        kept: per row bool (N,); an image that was not kept is drawn as a crossed box.
        groups: (heading, columns) from the left, set apart by a gap.
        marked: per row bool (N,); an image that is marked gets a red frame.
    """
    height = rows[0].shape[-2]
    zoom = max(1, tile // height)
    h, w = zoom * height, zoom * rows[0].shape[-1]
    gap, font = 4, ImageFont.load_default(11)
    left = max((math.ceil(font.getlength(t)) for t in titles), default=0) + (2 * gap if titles else gap)
    top, below, apart = (gap + 16 if groups else gap), (14 if captions else 0), 4 * gap
    columns = max(len(r) for r in rows)
    ends = list(itertools.accumulate(n for _, n in groups))
    x_of = [left + j * (w + gap) + apart * sum(j >= end for end in ends[:-1]) for j in range(columns)]
    sheet = Image.new("RGB", (x_of[-1] + w + gap, top + len(rows) * (h + below + gap)), "white")
    draw = ImageDraw.Draw(sheet)
    for (heading, _), start in zip(groups, [0, *ends], strict=False):
        draw.text((x_of[start], gap), heading, fill="black", font=font)
    for i, row in enumerate(rows):
        y = top + i * (h + below + gap)
        if titles:
            draw.text((gap, y + h / 2), titles[i], fill="black", font=font, anchor="lm")
        good = kept[i] if kept else torch.ones(len(row), dtype=torch.bool)
        pixels = to_pixels(torch.where(good.view(-1, 1, 1, 1).to(row.device), row, torch.zeros_like(row)))
        for j, x in enumerate(x_of[: len(row)]):
            if good[j]:
                sheet.paste(_image(pixels[j]).resize((w, h), Image.Resampling.NEAREST).convert("RGB"), (x, y))
                if marked and marked[i][j]:
                    draw.rectangle((x - 2, y - 2, x + w + 1, y + h + 1), outline="firebrick", width=2)
            else:
                draw.rectangle((x, y, x + w - 1, y + h - 1), fill="lightgrey")
                draw.line((x, y, x + w - 1, y + h - 1), fill="firebrick")
                draw.line((x, y + h - 1, x + w - 1, y), fill="firebrick")
            if captions:
                draw.text((x + w / 2, y + h + 1), captions[i][j], fill="black", font=font, anchor="mt")
    return sheet

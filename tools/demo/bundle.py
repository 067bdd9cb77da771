"""The pictures of the last run as files, in memory: each with its settings, all in one ZIP, and a sheet of them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import torch

from ...diffusion.images import to_pixels
from ...diffusion.samples import SHEET, Samples, file_names
from .encoded import encode
from .preview import Preview

__all__ = ["held", "sheet_file", "zip_file"]


def held(samples: Samples, preview: Preview) -> Samples:
    """The same pictures as bytes, a quarter of the memory, to be held for a visitor.

    Args:
        samples: as they were made.
        preview: of their model.
    """
    there = samples.pictured.view(-1, 1, 1, 1).to(samples.images.device)
    shown = preview.finished(torch.where(there, samples.images, torch.zeros_like(samples.images)))
    images = torch.from_numpy(to_pixels(shown)).movedim(-1, -3).contiguous()
    return replace(samples, images=images, filtered=replace(samples.filtered, pictures=torch.zeros(0), shown=()))


def zip_file(samples: Samples) -> bytes:
    """A ZIP with a PNG per picture, named and described as by `Samples.save`, and the sheet.

    Args:
        samples: of `held`.
    """
    buffer = io.BytesIO()
    names = file_names(samples.seeds.tolist())
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:  # PNGs are compressed already
        for i in samples.pictured.nonzero().flatten().tolist():
            file.writestr(names[i], encode(_floats(samples.images[i]), samples.settings_of(i)))
        file.writestr("sheet.png", sheet_file(samples))
    return buffer.getvalue()


def sheet_file(samples: Samples) -> bytes:
    """The sheet of pictures as a PNG with the settings of all, as by `Samples.save_sheet`; see `zip_file`."""
    settings = {**samples.settings, "pictures": [samples.settings_of(i) for i in range(min(len(samples), SHEET))]}
    return encode(replace(samples, images=_floats(samples.images)).sheet(), settings)


def _floats(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 127.5 - 1

"""The same pictures in every form that training reads: folders of image files, one array, latents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from ...diffusion.latents import ABOUT, LABELS, LOG_VARIANCE, MEAN
from ...diffusion.whole_file import file_hash

__all__ = ["CLASSES", "draw_pictures", "write_array", "write_images", "write_latents"]

CLASSES = 10


def draw_pictures(count: int, size: int) -> np.ndarray:
    """uint8 (count, size, size, 3): soft shapes with a little grain, about as hard to compress as small photographs."""
    draw = np.random.default_rng(0)
    coarse = draw.normal(size=(count, 8, 8, 3))
    soft = [
        np.asarray(Image.fromarray((80 * c + 128).clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC))
        for c in coarse
    ]  # fmt: skip
    return (np.stack(soft) + draw.normal(scale=4.0, size=(count, size, size, 3))).clip(0, 255).astype(np.uint8)


def write_images(pictures: np.ndarray, folder: Path, suffix: str) -> int:
    """A folder for each class, pictures in turn; "png", or "jpg" of quality 90. Returns the bytes of all files."""
    for i, picture in enumerate(pictures):
        file = folder / f"{i % CLASSES}" / f"{i:06}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(file, quality=90)
    return sum(file.stat().st_size for file in folder.glob("*/*"))


def _labels(folder: Path, count: int) -> None:
    np.save(folder / LABELS, np.arange(count) % CLASSES)


def write_array(pictures: np.ndarray, folder: Path) -> int:
    """uint8 (N, 3, H, W) in x.npy, and labels. Returns the bytes of the pictures."""
    folder.mkdir(parents=True)
    np.save(folder / "x.npy", pictures.transpose(0, 3, 1, 2))
    _labels(folder, len(pictures))
    return pictures.nbytes


def write_latents(count: int, size: int, folder: Path) -> int:
    """A folder as `sfumato encode` leaves it, of 4 channels in float16, with a spread. Returns the bytes of the latents."""
    folder.mkdir(parents=True)
    draw, shape = np.random.default_rng(0), (4, size, size)
    np.save(folder / MEAN, draw.normal(size=(count, *shape)).astype(np.float16))
    np.save(folder / LOG_VARIANCE, draw.normal(-9.0, 1.0, size=(count, *shape)).astype(np.float16))
    _labels(folder, count)
    files = {
        name: {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size}
        for name in (MEAN, LOG_VARIANCE, LABELS)
    }
    about = {
        "format": 1, "number": count, "shape": shape, "num_classes": CLASSES, "shift": [0.0] * 4, "scaling": [1.0] * 4,
        "vae": {"folder": "none: drawn for a bench"}, "files": files,
    }  # fmt: skip
    (folder / ABOUT).write_text(json.dumps(about))
    return 2 * 2 * count * int(np.prod(shape))

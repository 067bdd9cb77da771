"""Training data: sources that give batches by index."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

__all__ = ["Batch", "Digits", "ImageFolder", "Source"]


class Batch(NamedTuple):
    """x: float32 (B, C, *space), pictures in [-1, 1]. labels: int64 (B,), or None without classes.

    spread: standard deviation of each number of x, of which the trainer draws a sample by address, as x; VAE latents have one.
    """

    x: Tensor
    labels: Tensor | None
    spread: Tensor | None = None


@runtime_checkable
class Source(Protocol):
    """A data set, read by index: who asks for the same indices gets the same batch. The trainer owns the order."""

    def __len__(self) -> int: ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample, channels first: (channels, height, width) of a picture."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 when there are none."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes when the data do; a resumed run compares it."""
        ...

    def batch(self, index: Tensor) -> Batch:
        """The samples at `index`, int64 (B,)."""
        ...


@dataclass(frozen=True)
class Digits:
    """scikit-learn's handwritten digits: 1,797 real scans, 8x8, one channel, ten classes. Ships with scikit-learn.

    Args:
        part: "all", or the "even" or "odd" half, for a comparison of real with real.

    Raises:
        ValueError: for another part, and, when read, without scikit-learn.
    """

    part: str = "all"

    def __post_init__(self) -> None:
        if self.part not in ("all", "even", "odd"):
            raise ValueError(f"Digits.part is {self.part!r}; allowed: 'all', 'even', 'odd'")

    @cached_property
    def _arrays(self) -> tuple[Tensor, Tensor]:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise ValueError("data Digits needs scikit-learn: pip install 'sfumato[quickstart]'") from error
        images, labels = load_digits(return_X_y=True)
        pick = {"all": slice(None), "even": slice(0, None, 2), "odd": slice(1, None, 2)}[self.part]
        x = torch.tensor(np.asarray(images)[pick], dtype=torch.float32).view(-1, 1, 8, 8) / 8 - 1
        return x, torch.tensor(np.asarray(labels)[pick], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._arrays[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        return 1, 8, 8

    @property
    def num_classes(self) -> int:
        return 10

    @property
    def bins(self) -> int:
        """Values that a number of the data can take, over [-1, 1]."""
        return 17

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._arrays[0].numpy().tobytes() + self._arrays[1].numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        x, labels = self._arrays
        return Batch(x[index], labels[index])


_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class ImageFolder:
    """Images below a folder; its sub-folders are the classes, in alphabetical order. Centre-cropped and resized to a square.

    Turned as their EXIF says; transparent ones are laid on black; of 16-bit ones the upper 8 bits are used. The fingerprint is
    that of names and sizes, not of pixels.

    Args:
        root: the folder. Images directly in it: no classes.
        size: height and width in pixels, >= 1.
        channels: 1 (grey) or 3 (RGB).
        threads: decoding threads, >= 1.

    Raises:
        ValueError: for a folder that is missing or holds no image, mixed images and sub-folders, other values, and, when read,
            for a file that is not an image, with its path.
    """

    root: str
    size: int = 32
    channels: int = 3
    threads: int = 2

    def __post_init__(self) -> None:
        if self.channels not in (1, 3) or self.size < 1 or self.threads < 1:
            raise ValueError(
                f"ImageFolder(size={self.size}, channels={self.channels}, threads={self.threads}); "
                "allowed: size >= 1, channels 1 or 3, threads >= 1"
            )
        if not Path(self.root).is_dir():
            raise ValueError(f"ImageFolder.root is {self.root!r}, which is not a folder")

    @cached_property
    def _files(self) -> tuple[list[Path], list[int], list[str]]:
        root = Path(self.root)
        found = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
        if not found:
            raise ValueError(f"ImageFolder.root {self.root!r} holds no image; allowed endings: {', '.join(_SUFFIXES)}")
        tops = [p.relative_to(root).parts for p in found]
        classes = sorted({parts[0] for parts in tops if len(parts) > 1})
        if classes and any(len(parts) == 1 for parts in tops):
            raise ValueError(
                f"ImageFolder.root {self.root!r} holds both images and class folders; move the images into one"
            )
        return found, [classes.index(parts[0]) if classes else 0 for parts in tops], classes

    def __len__(self) -> int:
        return len(self._files[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    @property
    def num_classes(self) -> int:
        return len(self._files[2])

    @property
    def bins(self) -> int:
        """Values that a number of the data can take, over [-1, 1]."""
        return 256

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the class folders, by label."""
        return self._files[2]

    @property
    def fingerprint(self) -> str:
        root = Path(self.root)
        listing = "\n".join(f"{p.relative_to(root).as_posix()} {p.stat().st_size}" for p in self._files[0])
        return hashlib.sha256(f"{self.size} {self.channels}\n{listing}".encode()).hexdigest()[:16]

    def _read(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                if image.mode.startswith("I"):  # 16 bits: Pillow's own conversion would cut them off at 255
                    image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
                if "A" in image.getbands() or "transparency" in image.info:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
                image = image.convert("L" if self.channels == 1 else "RGB")
        except (OSError, Image.DecompressionBombError, ValueError) as error:
            raise ValueError(f"{path} can't be read as an image: {error}; mend or remove it") from error
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        image = image.resize((self.size, self.size), Image.Resampling.LANCZOS, box=box)
        return torch.from_numpy(np.array(image)).view(self.size, self.size, self.channels).permute(2, 0, 1)

    def batch(self, index: Tensor) -> Batch:
        paths, labels, classes = self._files
        chosen = index.tolist()
        with ThreadPoolExecutor(self.threads) as pool:
            x = torch.stack(list(pool.map(self._read, (paths[i] for i in chosen))))
        return Batch(x.float() / 127.5 - 1, torch.tensor([labels[i] for i in chosen]) if classes else None)

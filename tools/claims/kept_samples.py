"""What a model made, kept as a data set for the next one."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ...diffusion import Batch

__all__ = ["KeptSamples", "keep_samples"]


def keep_samples(x: Tensor, file: Path) -> None:
    """Write samples so that the file is there whole or not at all.

    Args:
        x: (N, C, H, W), N >= 1.
        file: where to, .safetensors.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}")
    save_file({"x": x.detach().float().contiguous()}, temporary)
    os.replace(temporary, file)


@dataclass(frozen=True)
class KeptSamples:
    """Samples without classes, from a file that `keep_samples` wrote.

    Args:
        file: the .safetensors.

    Raises:
        ValueError: for a file that is missing.
    """

    file: str

    def __post_init__(self) -> None:
        if not Path(self.file).is_file():
            raise ValueError(f"KeptSamples.file is {self.file!r}, which is not there; allowed: what keep_samples wrote")

    @cached_property
    def _x(self) -> Tensor:
        return load_file(self.file)["x"]

    def __len__(self) -> int:
        return len(self._x)

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self._x.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return 0

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._x.numpy().tobytes()).hexdigest()[:16]

    def batch(self, index: Tensor) -> Batch:
        return Batch(self._x[index], None)

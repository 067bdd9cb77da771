"""The network that the Frechet Inception distance was defined with: Inception V3 as TensorFlow's graph of 2015-12-05 has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["InceptionNetwork"]

_Pool = Literal["mean", "max", "halve"]


class _Step(NamedTuple):
    """A convolution: its name as torchvision calls it, channels of its output, kernel, and stride; padded only where the stride is 1."""

    name: str
    width: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1


_Path = Sequence[_Step | _Pool | tuple[_Step, ...]]
_3, _5, _ROW, _COLUMN, _LONG_ROW, _LONG_COLUMN = (3, 3), (5, 5), (1, 3), (3, 1), (1, 7), (7, 1)


class _Convolution(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, channels: int, width: int, kernel: tuple[int, int], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class _Mixed(nn.Module):
    """Paths beside each other, their outputs stacked; a path may split at its end."""

    def __init__(self, channels: int, paths: Sequence[_Path]) -> None:
        super().__init__()
        self.paths = paths
        self.width = 0
        for path in paths:
            width = channels
            for step in path:
                if isinstance(step, str):
                    continue
                steps = (step,) if isinstance(step, _Step) else step
                for name, out, kernel, stride in steps:
                    padding = (kernel[0] // 2, kernel[1] // 2) if stride == 1 else (0, 0)
                    self.add_module(name, _Convolution(width, out, kernel, stride, padding))
                width = sum(s.width for s in steps)
            self.width += width

    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for path in self.paths:
            y = x
            for step in path:
                if isinstance(step, str):
                    y = _pooled(y, step)
                elif isinstance(step, _Step):
                    y = self.get_submodule(step.name)(y)
                else:
                    y = torch.cat([self.get_submodule(s.name)(y) for s in step], 1)
            found.append(y)
        return torch.cat(found, 1)


def _pooled(x: Tensor, kind: _Pool) -> Tensor:
    if kind == "mean":  # TensorFlow's mean at the border is of the pixels that there are
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return F.max_pool2d(x, 3, 1, 1) if kind == "max" else F.max_pool2d(x, 3, 2)


def _a(pool: int) -> Sequence[_Path]:
    return (
        (_Step("branch1x1", 64),),
        (_Step("branch5x5_1", 48), _Step("branch5x5_2", 64, _5)),
        (_Step("branch3x3dbl_1", 64), _Step("branch3x3dbl_2", 96, _3), _Step("branch3x3dbl_3", 96, _3)),
        ("mean", _Step("branch_pool", pool)),
    )


def _b() -> Sequence[_Path]:
    return (
        (_Step("branch3x3", 384, _3, 2),),
        (_Step("branch3x3dbl_1", 64), _Step("branch3x3dbl_2", 96, _3), _Step("branch3x3dbl_3", 96, _3, 2)),
        ("halve",),
    )


def _c(inner: int) -> Sequence[_Path]:
    return (
        (_Step("branch1x1", 192),),
        (
            _Step("branch7x7_1", inner), _Step("branch7x7_2", inner, _LONG_ROW), _Step("branch7x7_3", 192, _LONG_COLUMN),
        ),
        (
            _Step("branch7x7dbl_1", inner), _Step("branch7x7dbl_2", inner, _LONG_COLUMN),
            _Step("branch7x7dbl_3", inner, _LONG_ROW), _Step("branch7x7dbl_4", inner, _LONG_COLUMN),
            _Step("branch7x7dbl_5", 192, _LONG_ROW),
        ),
        ("mean", _Step("branch_pool", 192)),
    )  # fmt: skip


def _d() -> Sequence[_Path]:
    return (
        (_Step("branch3x3_1", 192), _Step("branch3x3_2", 320, _3, 2)),
        (
            _Step("branch7x7x3_1", 192), _Step("branch7x7x3_2", 192, _LONG_ROW),
            _Step("branch7x7x3_3", 192, _LONG_COLUMN), _Step("branch7x7x3_4", 192, _3, 2),
        ),
        ("halve",),
    )  # fmt: skip


def _e(pool: _Pool) -> Sequence[_Path]:
    return (
        (_Step("branch1x1", 320),),
        (_Step("branch3x3_1", 384), (_Step("branch3x3_2a", 384, _ROW), _Step("branch3x3_2b", 384, _COLUMN))),
        (
            _Step("branch3x3dbl_1", 448), _Step("branch3x3dbl_2", 384, _3),
            (_Step("branch3x3dbl_3a", 384, _ROW), _Step("branch3x3dbl_3b", 384, _COLUMN)),
        ),
        (pool, _Step("branch_pool", 192)),
    )  # fmt: skip


class InceptionNetwork(nn.Module):
    """Inception V3 of TensorFlow's 2015-12-05 graph, under torchvision's names: 2048 features (pool_3) and 1008 scores.

    It differs from torchvision's in what was trained and in two ways: means at the border leave the padding out, and the last block takes a
    maximum where the paper and the block before take a mean.

    Source: Szegedy et al. 2015 (1512.00567); the graph inception-2015-12-05, which Heusel et al. 2017 (1706.08500) measured with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Convolution(3, 32, _3, 2)
        self.Conv2d_2a_3x3 = _Convolution(32, 32, _3)
        self.Conv2d_2b_3x3 = _Convolution(32, 64, _3, padding=(1, 1))
        self.Conv2d_3b_1x1 = _Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = _Convolution(80, 192, _3)
        width = 192
        self.mixed: list[str] = []
        for name, paths in (
            ("5b", _a(32)), ("5c", _a(64)), ("5d", _a(64)), ("6a", _b()), ("6b", _c(128)), ("6c", _c(160)), ("6d", _c(160)),
            ("6e", _c(192)), ("7a", _d()), ("7b", _e("mean")), ("7c", _e("max")),
        ):  # fmt: skip
            block = _Mixed(width, paths)
            self.add_module(f"Mixed_{name}", block)
            self.mixed.append(f"Mixed_{name}")
            width = block.width
        self.fc = nn.Linear(width, 1008)

    def features(self, x: Tensor) -> Tensor:
        """(N, 2048) of pictures in [-1, 1], (N, 3, 299, 299)."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(_pooled(x, "halve")))
        x = _pooled(x, "halve")
        for name in self.mixed:
            x = self.get_submodule(name)(x)
        return x.mean((2, 3))

"""The weights of a network of EDM under NVIDIA's names: taken one by one, so that what is left over is known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["EDMWeights", "block_names", "split_heads"]


class EDMWeights:
    """A state dict that is read key by key.

    Args:
        weights: the state dict of an EDMPrecond.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights, self._left = weights, set(weights)

    def __contains__(self, key: str) -> bool:
        return f"model.{key}" in self._weights

    def shape(self, key: str, axes: int) -> tuple[int, ...]:
        """The shape of a tensor that must be there.

        Raises:
            ValueError: where it is missing, or has other axes.
        """
        name = f"model.{key}"
        if name not in self._weights:
            raise ValueError(f"{name} is missing; the file holds no whole network of EDM")
        shape = tuple(self._weights[name].shape)
        if len(shape) != axes:
            raise ValueError(f"{name} has shape {shape}; allowed: {axes} axes")
        return shape

    def take(self, key: str, shape: Sequence[int]) -> Tensor:
        """A tensor that must be there and be of a shape, copied, in float32.

        Raises:
            ValueError: where it is missing, or of another shape.
        """
        if self.shape(key, len(shape)) != tuple(shape):
            found = self.shape(key, len(shape))
            raise ValueError(f"model.{key} has shape {found}; allowed, by the other weights: {tuple(shape)}")
        self._left.discard(f"model.{key}")
        return self._weights[f"model.{key}"].detach().to(torch.float32, copy=True)

    def levels(self) -> tuple[list[int], int]:
        """The resolutions, from the largest, and the blocks of each on the way down.

        Raises:
            ValueError: where there are none.
        """
        found = [re.fullmatch(r"model\.enc\.(\d{1,6})x\1_block\d+\.conv1\.weight", key) for key in self._weights]
        counts = Counter(int(f[1]) for f in found if f)
        if not counts:
            raise ValueError("model.enc.32x32_block0.conv1.weight is missing, or its like; this is no network of EDM")
        sizes = sorted(counts, reverse=True)
        return sizes, counts[sizes[0]]

    def finish(self, taps: Sequence[float]) -> None:
        """Refuse what nobody took, but filters that are the ones in use.

        Raises:
            ValueError: naming it.
        """
        line = torch.tensor(taps)
        kernel = torch.outer(line, line) / line.sum() ** 2
        for key in sorted(self._left):
            if not key.endswith(".resample_filter"):
                raise ValueError(f"{key} is not known; allowed: the weights of a network of EDM, and sigma_data")
            found = self._weights[key].detach().float()
            if found.numel() != kernel.numel() or not torch.allclose(found.view_as(kernel), kernel):
                raise ValueError(
                    f"{key} is another filter than {list(taps)} on both axes, which the other weights stand for"
                )


def block_names(sizes: Sequence[int], blocks: int) -> Iterator[tuple[str, str]]:
    """(our name, their name) of every residual block, in the order of ours: down, middle, up."""
    levels = [f"{s}x{s}" for s in sizes]
    down = [f"{s}_{n}" for s in levels for n in ["down"] * (s != levels[0]) + [f"block{i}" for i in range(blocks)]]
    up = [
        f"{s}_{n}" for s in levels[::-1] for n in ["up"] * (s != levels[-1]) + [f"block{i}" for i in range(blocks + 1)]
    ]
    yield from ((f"down.{i}", f"enc.{name}") for i, name in enumerate(down))
    yield from ((f"middle.{i}", f"dec.{levels[-1]}_in{i}") for i in range(2))
    yield from ((f"up.{i}", f"dec.{name}") for i, name in enumerate(up))


def split_heads(qkv: Tensor, heads: int) -> Tensor:
    """The rows of queries, keys and values, which lie beside each other for every channel, as all queries, all keys, all values."""
    return qkv.unflatten(0, (heads, -1, 3)).movedim(2, 0).flatten(0, 2)

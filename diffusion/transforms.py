"""What is done to a gradient between its exchange and its use: parts of a recipe.

They run on the mean over the global batch, the same in every process, before the check that it is finite and before clipping by
norm. They keep nothing between steps, so a resumed run needs nothing of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..schedules import Stream
from ..schedules.noise import gaussian

__all__ = [
    "AdaptiveClip",
    "Centralise",
    "ClipValue",
    "GradientNoise",
    "GradientTransform",
    "NanToNum",
    "check_sharded",
]


class GradientTransform(Protocol):
    """Changes gradients in place.

    Args of a call: gradients, by the names of their parameters; step, 0, 1, ...; parameters, by the same names.

    Attributes: elementwise, whether every number changes by itself alone, so that shards may be transformed one by one.
    """

    elementwise: ClassVar[bool]

    def __call__(self, gradients: Mapping[str, Tensor], step: int, parameters: Mapping[str, Tensor]) -> None: ...


def check_sharded(transforms: Sequence[GradientTransform]) -> None:
    """Refuse what can't be done where every process holds but a shard of each gradient.

    Raises:
        ValueError: naming the first transform that looks at more than one number.
    """
    for transform in transforms:
        if not transform.elementwise:
            raise ValueError(
                f"{type(transform).__name__} needs whole gradients, and here every process holds a shard of each; train without "
                "sharding, or use transforms that are element-wise, such as ClipValue"
            )


def _check_limit(part: object, name: str, limit: float) -> None:
    if not 0 < limit < float("inf"):
        raise ValueError(f"{type(part).__name__}.{name} is {limit!r}; allowed: > 0 and finite")


@dataclass(frozen=True)
class NanToNum:
    """nan becomes 0, and infinity +-limit: a sample that overflows costs its share of one step, and is not reported.

    Args:
        limit: in place of infinity, > 0.

    Raises:
        ValueError: for a limit out of range.

    Source: Karras et al. 2022 (2206.00364), in their code only: 1e5.
    """

    limit: float = 1e5
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_limit(self, "limit", self.limit)

    def __call__(self, gradients: Mapping[str, Tensor], step: int, parameters: Mapping[str, Tensor]) -> None:
        for gradient in gradients.values():
            gradient.nan_to_num_(nan=0.0, posinf=self.limit, neginf=-self.limit)


@dataclass(frozen=True)
class ClipValue:
    """Every number between -limit and limit; what is not finite stays so, and is found by the check that follows.

    Args:
        limit: > 0.

    Raises:
        ValueError: for a limit out of range.

    Source: torch.nn.utils.clip_grad_value_, which makes limits of infinities.
    """

    limit: float = 1.0
    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_limit(self, "limit", self.limit)

    def __call__(self, gradients: Mapping[str, Tensor], step: int, parameters: Mapping[str, Tensor]) -> None:
        for gradient in gradients.values():
            clipped = gradient.clamp(-self.limit, self.limit)
            gradient.copy_(torch.where(gradient.isinf(), gradient, clipped))


@dataclass(frozen=True)
class Centralise:
    """Less its mean per output, for every parameter of two or more dimensions: a row (out, ...) of the gradient sums to 0.

    Source: Yong et al. 2020 (2004.01461), eq. 1.
    """

    elementwise: ClassVar[bool] = False

    def __call__(self, gradients: Mapping[str, Tensor], step: int, parameters: Mapping[str, Tensor]) -> None:
        for gradient in gradients.values():
            if gradient.ndim > 1:
                gradient.sub_(gradient.mean(dim=tuple(range(1, gradient.ndim)), keepdim=True))


@dataclass(frozen=True)
class GradientNoise:
    """Plus Gaussian noise of variance eta / (1 + step)^gamma, addressed by (seed, step, parameter's name).

    It costs about 43 ms per million numbers, and 1 ms per parameter, on one CPU thread.

    Args:
        eta: variance at step 0, > 0; the paper tries 0.01, 0.3 and 1.
        gamma: how fast it falls, >= 0.
        seed: of the noise, in [0, 2^63); it meets no other noise of the run, whatever the recipe's.

    Raises:
        ValueError: for values out of range.

    Source: Neelakantan et al. 2015 (1511.06807), eq. 1.
    """

    eta: float = 0.01
    gamma: float = 0.55
    seed: int = 0
    elementwise: ClassVar[bool] = False  # a shard does not know where in the parameter it lies

    def __post_init__(self) -> None:
        _check_limit(self, "eta", self.eta)
        if not 0 <= self.gamma < float("inf"):
            raise ValueError(f"GradientNoise.gamma is {self.gamma!r}; allowed: >= 0 and finite")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**63:
            raise ValueError(f"GradientNoise.seed is {self.seed!r}; allowed: a whole number, 0 to 2^63 - 1")

    def __call__(self, gradients: Mapping[str, Tensor], step: int, parameters: Mapping[str, Tensor]) -> None:
        std = (self.eta / (1 + step) ** self.gamma) ** 0.5
        for name, gradient in gradients.items():
            # by name: a parameter's noise does not depend on which others there are. 56 bits of a hash meet once in 2^28 names
            word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
            seed = torch.tensor([self.seed], device=gradient.device)
            noise = gaussian(seed, word >> 24, step, word & 0xFFFFFF, gradient.shape, stream=Stream.GRADIENT)[0]
            gradient.add_(noise.to(gradient.dtype), alpha=std)


@dataclass(frozen=True)
class AdaptiveClip:
    """The gradient of a unit (a row of a weight, a bias as a whole) at most `share` of the unit's own norm.

    Args:
        share: largest ratio of the norms of gradient and weights, > 0.
        floor: least norm of the weights that counts, > 0, so that units which start at 0 can move.
        skip: words of which none may be in the dotted name of what is clipped; the paper leaves the last layer alone.

    Raises:
        ValueError: for values out of range.

    Source: Brock et al. 2021 (2102.06171), eq. 3.
    """

    share: float = 0.01
    floor: float = 1e-3
    skip: Sequence[str] = ("head",)
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_limit(self, "share", self.share)
        _check_limit(self, "floor", self.floor)
        if isinstance(self.skip, str):
            raise ValueError(f"AdaptiveClip.skip is {self.skip!r}; allowed: a list of words, such as [{self.skip}]")
        object.__setattr__(self, "skip", tuple(self.skip))

    def __call__(self, gradients: Mapping[str, Tensor], step: int, parameters: Mapping[str, Tensor]) -> None:
        for name, gradient in gradients.items():
            if not set(name.split(".")) & set(self.skip):
                largest = self.share * _unit_norm(parameters[name].detach()).clamp(min=self.floor)
                norm = _unit_norm(gradient)
                # what is nan stays so, and infinity becomes it (0 times infinity), for the check that follows
                gradient.mul_(torch.where(norm > largest, largest / norm, torch.ones_like(norm)))


def _unit_norm(x: Tensor) -> Tensor:
    """The norm of each row, broadcastable; of the whole where there are no rows."""
    return x.norm() if x.ndim <= 1 else torch.linalg.vector_norm(x, dim=tuple(range(1, x.ndim)), keepdim=True)

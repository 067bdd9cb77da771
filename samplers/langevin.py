"""Langevin steps at one noise level, as a corrector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.scalar import Number, divide, minimum, relu, sqrt
from .jump import refuse_jump
from .state import Denoise, Vector

__all__ = ["Corrector", "Langevin"]


@runtime_checkable
class Corrector(Protocol):
    """Moves x within one noise level, towards what is likely there."""

    @property
    def draws(self) -> int:
        """Gaussian tensors wanted per step."""
        ...

    def correct(self, x: Vector, denoise: Denoise, now: Level, nxt: Level, z: tuple[Vector, ...]) -> Vector:
        """x at nxt, corrected there, after a step from now to nxt.

        Args:
            x: (B, ...), at nxt, where sigma > 0.
            denoise: the model.
            now, nxt: the step that has been made.
            z: `draws` tensors of standard normals like x.
        """
        ...


@dataclass(frozen=True)
class Langevin:
    """count times: x += e / 2 s + sqrt(e) xi with the score s = -eps / sigma, at a fixed level.

    The step size e, by `rule`: "removed": size times the variance that the step before removed, sigma_now^2 - (alpha_now / alpha)^2
    sigma^2, as predictor-corrector guidance wants (beta of DDPM, g_now^2 - g^2 on an exploding path), of which at most sigma^2
    counts: a step over more than halved noise would diverge. "share": size times sigma^2.
    "snr": 4 a (size |xi| / |s|)^2 with a = (alpha_now / alpha)^2, the norms per sample (the authors take their means over the
    batch, and with them a picture would depend on its neighbours).

    Args:
        rule: "removed", "share" or "snr".
        size: > 0; 1 for "removed", 0.01 for "share", and for "snr" 0.16 (CIFAR-10), 0.17 (CelebA), 0.075 (LSUN), 0.15 (1024^2).
        count: steps, >= 1; an evaluation and a draw each.

    Raises:
        ValueError: for values out of range.

    Source: Song et al. 2021 (2011.13456), algorithms 4 and 5; Bradley & Nakkiran 2024 (2408.09000) for "removed".
    """

    rule: Literal["removed", "share", "snr"] = "removed"
    size: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        if self.rule not in ("removed", "share", "snr"):
            raise ValueError(f"Langevin.rule is {self.rule!r}; allowed: 'removed', 'share', 'snr'")
        if not 0.0 < self.size < math.inf:
            raise ValueError(f"Langevin.size is {self.size}; allowed: above 0")
        if not isinstance(self.count, int) or self.count < 1:
            raise ValueError(f"Langevin.count is {self.count}; allowed: whole numbers >= 1")

    @property
    def draws(self) -> int:
        return self.count

    def correct(self, x: Vector, denoise: Denoise, now: Level, nxt: Level, z: tuple[Vector, ...]) -> Vector:
        at = nxt.like(x) if isinstance(x, Tensor) else nxt
        for xi in z:
            p = denoise(x, nxt)
            refuse_jump(self, p, "give the corrector a rule of its own: PredictorCorrector(..., rule=CFG(...))")
            eps = p.eps
            e = self._size(now, nxt, eps, xi)
            x = x - e / (2 * at.sigma) * eps + sqrt(e) * xi
        return x

    def _size(self, now: Level, nxt: Level, eps: Vector, xi: Vector) -> Number:
        kept = divide(now.alpha, nxt.alpha) ** 2
        if self.rule == "removed":
            return self.size * minimum(relu(now.sigma**2 - kept * nxt.sigma**2), nxt.sigma**2)
        if self.rule == "share":
            return self.size * nxt.sigma**2
        norm = _norm(xi) / _norm(eps)
        return 4 * kept * (self.size * norm * nxt.sigma) ** 2


def _norm(v: Tensor) -> Tensor:
    """Per sample, to multiply v with."""
    return torch.linalg.vector_norm(v, dim=tuple(range(1, v.ndim)), keepdim=True) if v.ndim > 1 else v.abs()

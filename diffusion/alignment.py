"""Training that also makes a transformer's tokens say what a frozen encoder says of the picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..schedules.weighting import Weighting
from .backbones.dit import DiT
from .backbones.features import Features, features
from .denoiser import Denoiser
from .objective import Losses, Noised, Objective, Regression

__all__ = ["Alignment", "Encoder"]


@runtime_checkable
class Encoder(Protocol):
    """A frozen network that says something of every part of a picture; a part of a recipe, by its class path."""

    def __call__(self, x0: Tensor) -> Tensor:
        """Features (B, N, D) of clean data (B, C, H, W), row by row, N as many as the backbone's patches; asked without gradients."""
        ...


@dataclass(frozen=True)
class Alignment:
    """Another objective's loss, plus scale times 1 - cosine between the encoder's features and a projection of a block's tokens.

    The projection is an MLP of three layers, trained beside the backbone and not used in sampling. The encoder sees the data as they
    are trained on: for latents it must be one that reads latents.

    Args:
        encoder: frozen; its device and precision are its own business, x0's device is where the features are wanted.
        width: of the backbone's tokens.
        features: numbers per place of the encoder's features.
        layer: the block whose tokens are compared, 0 to depth - 1; negative: from the end. The paper's is the eighth, 7, of DiT-XL's 28.
        scale: of the term, >= 0.
        hidden: width within the projection.
        objective: whose loss it is added to; one without a head of its own.

    Raises:
        ValueError: for other values; when called, for a backbone that is no DiT or of another width, and features of another shape.

    Source: Yu et al. 2024 (2410.06940), eq. 8-9; lambda 0.5 and three layers of 2048 as in its appendix.
    """

    encoder: Encoder
    width: int = 768
    features: int = 768
    layer: int = 7
    scale: float = 0.5
    hidden: int = 2048
    objective: Objective = field(default_factory=Regression)

    def __post_init__(self) -> None:
        for key in ("width", "features", "hidden"):
            if not isinstance(getattr(self, key), int) or getattr(self, key) < 1:
                raise ValueError(f"Alignment.{key} is {getattr(self, key)!r}; allowed: a whole number >= 1")
        if not 0 <= self.scale < math.inf:
            raise ValueError(f"Alignment.scale is {self.scale}; allowed: >= 0 (the paper's is 0.5)")
        if self.objective.head() is not None:
            name = type(self.objective).__name__
            raise ValueError(
                f"Alignment.objective is {name}, which trains a head of its own; allowed: Regression, Hybrid, ..."
            )

    def head(self) -> nn.Module | None:
        inside = [nn.Linear(self.width, self.hidden), nn.SiLU(), nn.Linear(self.hidden, self.hidden), nn.SiLU()]
        return nn.Sequential(*inside, nn.Linear(self.hidden, self.features))

    def __call__(self, denoiser: Denoiser, head: nn.Module | None, weighting: Weighting, seen: Noised) -> Losses:
        assert head is not None
        with self._watched(denoiser.backbone) as inside:
            losses = self.objective(denoiser, None, weighting, seen)
        with torch.no_grad():
            wanted = self.encoder(seen.x0)
        if wanted.shape != (*inside.tokens.shape[:2], self.features):
            raise ValueError(
                f"objective.encoder says {tuple(wanted.shape)}; allowed: {(*inside.tokens.shape[:2], self.features)}, objective.features "
                "numbers for each of the backbone's patches; resize what it reads or what it says"
            )
        cosine = F.cosine_similarity(head(inside.tokens).float(), wanted.float(), dim=2)
        return Losses(losses.loss + self.scale * (1.0 - cosine.mean(1)), losses.error)

    @contextmanager
    def _watched(self, backbone: nn.Module) -> Iterator[Features]:
        net = backbone
        while not isinstance(net, DiT) and isinstance(getattr(net, "module", None), nn.Module):
            net = net.module  # of several processes
        if not isinstance(net, DiT):
            raise ValueError(
                f"objective Alignment reads the blocks of a DiT, and the backbone is a {type(net).__name__}"
            )
        if net.embed.out_features != self.width:
            raise ValueError(f"objective.width is {self.width}; allowed: the backbone's, {net.embed.out_features}")
        with features(net, self.layer) as seen:
            yield seen

"""What a network is told besides the image: the time and, for some, the class."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Conditioning", "sinusoid", "told_layer", "with_told"]

LOWEST = 1e-4  # the lowest frequency, relative to the highest


def sinusoid(time: Tensor, features: int, scale: float = 1.0, reach_lowest: bool = False) -> Tensor:
    """cos and sin of the time at frequencies that fall geometrically from `scale` towards 1e-4 `scale`, in float32.

    The frequencies are computed at every call: a buffer would be rounded by `net.bfloat16()` and lost on device meta.

    Args:
        time: (B,), any real numbers.
        features: how many numbers per time, even.
        scale: highest frequency, in radians per unit of time.
        reach_lowest: whether the last frequency is 1e-4 `scale`, as in diffusers' networks; else the one after the last would be, as
            in DiT's and ADM's own code.

    Returns:
        float32 (B, features): all cosines, then all sines.

    Source: Ho et al. 2020 (2006.11239), appendix B; order and spacing as in DiT's code.
    """
    half = features // 2
    steps = torch.arange(half, dtype=torch.float32, device=time.device)
    # diffusers' order of operations, so that its networks get the very numbers that they were trained on
    exponents = steps * math.log(LOWEST) / (half - 1) if reach_lowest else steps * (math.log(LOWEST) / half)
    angles = time.float()[:, None] * (scale * torch.exp(exponents))
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class Conditioning(nn.Module):
    """One vector per sample: an MLP of the time's sinusoid, plus a learned vector of the class.

    Class `num_classes` is the null class: whoever trains with label dropout replaces labels by it. With num_classes=0
    there is no class vector, and no parameter for one.

    Args:
        num_classes: classes, >= 0.
        features: numbers in the sinusoid, even, >= 2.
        width: numbers in the result.
        null_class: whether there is a row for the null class; without, labels must be given, and name classes.
        time_scale: highest frequency, > 0. 1.0 is right for times of 0..1000 and for clocks such as log-SNR / 4 in
            [-5, 5], as in DDPM and EDM; a time in [0, 1] wants about 1000.
        reach_lowest: see `sinusoid`.

    Raises:
        ValueError: for arguments outside these ranges; in a call, for a time or labels of wrong shape or dtype.
    """

    def __init__(
        self,
        num_classes: int,
        features: int,
        width: int,
        time_scale: float = 1.0,
        null_class: bool = True,
        reach_lowest: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 0:
            raise ValueError(f"num_classes is {num_classes}; allowed: >= 0 (0: a network without classes)")
        if not 0.0 < time_scale < math.inf:
            raise ValueError(
                f"time_scale is {time_scale}; allowed: > 0 (1.0 for times up to 1000, 1000 for times up to 1)"
            )
        if features < 2 or features % 2:
            raise ValueError(
                f"time_features is {features}; allowed: even numbers >= 2, half of them cosines and half sines"
            )
        self.num_classes = num_classes
        self.features = features
        self.time_scale = time_scale
        self.reach_lowest = reach_lowest
        self.time_in = nn.Linear(features, width)
        self.time_out = nn.Linear(width, width)
        self.null_class = null_class
        self.label = nn.Embedding(num_classes + null_class, width) if num_classes > 0 else None

    def forward(self, batch: int, time: Tensor, labels: Tensor | None) -> Tensor:
        """The vectors (batch, width) for float32 times (batch,) and int64 labels (batch,), None: the null class."""
        if time.shape != (batch,) or time.dtype != torch.float32:
            raise ValueError(
                f"time is {time.dtype} of shape {tuple(time.shape)}; allowed: float32 of shape ({batch},), one number"
                " per image (a single time t: torch.full((len(x),), t))"
            )
        waves = sinusoid(time, self.features, self.time_scale, self.reach_lowest).to(self.time_in.weight.dtype)
        vector = self.time_out(F.silu(self.time_in(waves)))
        if self.label is None:
            if labels is not None:
                raise ValueError(
                    "labels were given, but num_classes is 0; pass labels=None or build with num_classes > 0"
                )
            return vector
        if not self.null_class and (labels is None or _names(labels, self.num_classes)):
            raise ValueError(
                f"labels {'is None' if labels is None else f'has {self.num_classes}'}, and this network has no null class (null_class is "
                f"False); give a class in 0..{self.num_classes - 1} per sample, and guide by other means than a null class"
            )
        if labels is None:
            labels = torch.full((batch,), self.num_classes, dtype=torch.int64, device=time.device)
        elif labels.shape != (batch,) or labels.dtype != torch.int64:
            raise ValueError(
                f"labels is {labels.dtype} of shape {tuple(labels.shape)}; allowed: torch.int64 of shape ({batch},), a"
                f" class in 0..{self.num_classes - 1} per image; {self.num_classes} is the null class, and labels=None"
                " means null for all"
            )
        return vector + self.label(labels)


def _names(labels: Tensor, label: int) -> bool:
    """Whether a label is among those on the CPU; to look on another device would wait for it, and there the table's own check fires."""
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return bool((labels == label).any())


def told_layer(features: int, width: int) -> nn.Linear | None:
    """What an augmentation tells, as a vector beside the time's: without bias, so zeros, nothing done, say nothing; None for none.

    Args:
        features: numbers told per sample, >= 0.
        width: numbers in the vector.

    Raises:
        ValueError: for a negative number.

    Source: Karras et al. 2022 (2206.00364), appendix F.2.
    """
    if features < 0:
        raise ValueError(f"augment_features is {features}; allowed: >= 0, as many as the augmentation tells (0: none)")
    return nn.Linear(features, width, bias=False) if features else None


def with_told(vector: Tensor, layer: nn.Linear | None, told: Tensor | None) -> Tensor:
    """The vectors (batch, width) with what an augmentation told, (batch, features), added; None: zeros.

    Raises:
        ValueError: for another shape, or where the network does not listen to it.
    """
    features = layer.in_features if layer is not None else 0
    if told is not None and told.shape != (len(vector), features):
        fix = f"({len(vector)}, {features}), one row per sample" if features else "None"
        raise ValueError(
            f"augment has shape {tuple(told.shape)}, and augment_features is {features}; allowed: {fix}; build the network with "
            f"augment_features: {told.shape[-1]} for these"
        )
    if layer is None:
        return vector
    # zeros go through the layer, too: the processes of a training must agree on which gradients there are
    told = vector.new_zeros(len(vector), features) if told is None else told
    return vector + layer(told.to(layer.weight.dtype))

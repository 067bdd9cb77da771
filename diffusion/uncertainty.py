"""The loss weighed by its own learned size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..schedules.level import Level
from ..schedules.weighting import Weighting
from .backbones.embedding import sinusoid
from .clocks import LogSNRClock
from .denoiser import Denoiser
from .objective import Losses, Noised, regression

__all__ = ["LearnedUncertainty", "Uncertainty"]


class Uncertainty(nn.Module):
    """The logarithm of the expected loss as a function of the noise level: one linear layer on sinusoids of log-SNR.

    Args:
        features: how many sinusoids, even, >= 2.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features, self._clock = features, LogSNRClock(1.0)
        self.linear = nn.Linear(features, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, level: Level) -> Tensor:
        """u, float32 (B,), at a level of tensors (B,)."""
        log_snr = self._clock(level)
        assert isinstance(log_snr, Tensor)
        # an exponent, so never in half precision; device meta has none
        with torch.autocast("cpu" if log_snr.is_meta else log_snr.device.type, enabled=False):
            return self.linear(sinusoid(log_snr, self.features, 2.0).to(self.linear.weight)).sum(1).float()


@dataclass(frozen=True)
class LearnedUncertainty:
    """loss / exp(u) + u with u(log-SNR) trained along: every noise level ends with a weighted loss of 1 and gradients of one size.

    u tends to the logarithm of the expected weighted loss, and is dropped after training. EDM2 weighs by EDMWeighting, and embeds
    the level by random Fourier features where here are plain sinusoids.

    Args:
        features: sinusoids of log-SNR, even, >= 2.

    Raises:
        ValueError: for other values; when called, for element-wise levels.

    Source: Karras et al. 2024 (2312.02696), section 2.1 and eq. 21.
    """

    features: int = 128

    def __post_init__(self) -> None:
        if not isinstance(self.features, int) or self.features < 2 or self.features % 2:
            raise ValueError(f"LearnedUncertainty.features is {self.features!r}; allowed: an even number >= 2")

    def head(self) -> nn.Module | None:
        return Uncertainty(self.features)

    def __call__(self, denoiser: Denoiser, head: nn.Module | None, weighting: Weighting, seen: Noised) -> Losses:
        assert head is not None
        seen = seen.per_sample()
        if isinstance(seen.level.alpha, Tensor) and seen.level.alpha.ndim > 1:
            raise ValueError(
                "LearnedUncertainty needs one level per sample; use objective: Regression for element-wise levels"
            )
        answer = denoiser.answer(seen.x, seen.level, seen.condition)
        if answer.variance is not None:
            raise ValueError(
                "objective LearnedUncertainty leaves the learned variance untrained; set backbone.out_channels: null"
            )
        plain = regression(answer, denoiser, weighting, seen)
        u: Tensor = head(seen.level)
        return Losses(plain.loss / torch.exp(u) + u, plain.error)

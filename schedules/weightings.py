"""Loss weightings, each as W on the error of x0; see `weighting`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .density import log_snr_density
from .level import Level
from .rows import Eps, Row, determinant
from .schedule import Schedule

__all__ = ["ELBO", "P2", "Constant", "Debiased", "EDMWeighting", "MinSNR", "SigmoidWeighting", "SoftMinSNR"]


@dataclass(frozen=True)
class MinSNR:
    """W = min(SNR, gamma): on eps min(1, gamma / SNR), on v min(SNR, gamma) / (SNR + 1).

    Args:
        gamma: where the weight stops growing, > 0.

    Raises:
        ValueError: for gamma <= 0.

    Source: Hang et al. 2023 (2303.09556), eq. 7.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"MinSNR.gamma is {self.gamma}; allowed: > 0 (the paper's is 5)")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.exp(log_snr.clamp(max=math.log(self.gamma)))


@dataclass(frozen=True)
class EDMWeighting:
    """W = SNR + 1 / data_std^2: weight 1 on the output of the EDM row with the same data_std.

    Args:
        data_std: standard deviation of the data, > 0.

    Raises:
        ValueError: for data_std <= 0.

    Source: Karras et al. 2022 (2206.00364), table 1.
    """

    data_std: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.data_std < math.inf:
            raise ValueError(
                f"EDMWeighting.data_std is {self.data_std}; allowed: > 0 (the standard deviation of the data)"
            )

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.exp(log_snr) + self.data_std**-2


@dataclass(frozen=True)
class Constant:
    """Weight 1 on the output of a row: W = det^2 / sigma^2 of that row at the variance-preserving level.

    SNR for Eps ("L_simple"), 1 for X0, 1 + SNR for V, (1 + sqrt SNR)^2 for Flow, SNR + 1 / data_std^2 for EDM; whatever row the
    network predicts.

    Args:
        row: on whose squared error the weight is 1.

    Source: Ho et al. 2020 (2006.11239), eq. 14, for Eps.
    """

    row: Row = Eps()  # noqa: RUF009 - frozen, so one default serves all

    def __call__(self, log_snr: Tensor) -> Tensor:
        level = Level.from_log_snr(0.0, log_snr)
        weight = (determinant(self.row, level) / level.sigma) ** 2
        assert isinstance(weight, Tensor)
        return weight


@dataclass(frozen=True)
class SoftMinSNR:
    """W = gamma SNR / (SNR + gamma): MinSNR with a smooth bend.

    gamma = 1 / data_std^2 is k-diffusion's "soft-min-snr", e^b is SigmoidWeighting(b).

    Args:
        gamma: where the weight stops growing, > 0.

    Raises:
        ValueError: for gamma <= 0.

    Source: Crowson et al. 2024 (2401.11605), section 4.3.
    """

    gamma: float = 4.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise ValueError(f"SoftMinSNR.gamma is {self.gamma}; allowed: > 0 (the paper's is 4)")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return self.gamma * torch.sigmoid(log_snr - math.log(self.gamma))


@dataclass(frozen=True)
class Debiased:
    """W = sqrt(SNR): on eps 1 / sqrt(SNR), on v sqrt(SNR) / (1 + SNR).

    On eps it is unbounded at zero SNR, so it is cut there; LinearBeta ends at 152. (The paper weights eps only; the rule for other
    rows follows from it. Community code for v uses 1 / (1 + SNR), which is Constant(X0).)

    Args:
        most: largest weight on eps, > 0.

    Raises:
        ValueError: for most <= 0.

    Source: Yu et al. 2023 (2310.08442), eq. 14.
    """

    most: float = 1000.0

    def __post_init__(self) -> None:
        if not self.most > 0:
            raise ValueError(f"Debiased.most is {self.most}; allowed: > 0")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.exp(log_snr + (-0.5 * log_snr).clamp(max=math.log(self.most)))


@dataclass(frozen=True)
class P2:
    """W = SNR / (k + SNR)^gamma: less weight where only imperceptible detail is left to learn.

    Args:
        k: > 0.
        gamma: >= 0; 0 is Constant(Eps), 1 with k = 1 is SigmoidWeighting(0).

    Raises:
        ValueError: for other values.

    Source: Choi et al. 2022 (2204.00227), eq. 8.
    """

    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.k < math.inf and 0 <= self.gamma < math.inf):
            raise ValueError(
                f"P2(k={self.k}, gamma={self.gamma}); allowed: k > 0, gamma >= 0 (the paper's are 1 and 1 or 0.5)"
            )

    def __call__(self, log_snr: Tensor) -> Tensor:
        total = torch.logaddexp(log_snr, torch.full_like(log_snr, math.log(self.k)))
        return torch.exp(log_snr - self.gamma * total)


@dataclass(frozen=True)
class SigmoidWeighting:
    """W = e^bias SNR / (SNR + e^bias): on eps sigmoid(bias - log-SNR).

    Args:
        bias: log-SNR at which the weight on eps is 1/2; depends on the task.

    Raises:
        ValueError: for a bias that is not finite.

    Source: Kingma & Gao 2023 (2303.00848), section 3; Hoogeboom et al. 2024 (2410.19324), section 3.
    """

    bias: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.bias):
            raise ValueError(f"SigmoidWeighting.bias is {self.bias}; allowed: finite")

    def __call__(self, log_snr: Tensor) -> Tensor:
        return torch.exp(torch.nn.functional.logsigmoid(log_snr - self.bias) + self.bias)


@dataclass(frozen=True)
class ELBO:
    """W = SNR / (2 p), p the density of log-SNR with which training draws: the expected loss is the variational bound, in nats
    per number (without its two end terms).

    Args:
        schedule: whose density of log-SNR is drawn: the model's own for Uniform, the one within LogSNRImportance.

    Source: Kingma et al. 2021 (2107.00630), eq. 18.
    """

    schedule: Schedule

    def __call__(self, log_snr: Tensor) -> Tensor:
        return 0.5 * torch.exp(log_snr) / log_snr_density(self.schedule, log_snr)

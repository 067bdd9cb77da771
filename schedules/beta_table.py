"""The tables of betas that discrete models are trained on, by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from .level import Level
from .scalar import Number
from .table import Table

__all__ = ["BetaTable"]

# beta of the first and last entry of 1000
_ENDS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "sigmoid": (1e-4, 0.02)}


@dataclass(frozen=True)
class BetaTable:
    """The Table of T betas of a published recipe, computed in float64.

    Args:
        betas: "linear" (DDPM), "scaled_linear" (Stable Diffusion: linear in sqrt beta), "cosine" (improved DDPM: beta at most
            0.999, which only the last entry reaches), or "sigmoid" (GeoDiff: a sigmoid over [-6, 6] in beta).
        steps: entries T, >= 2.
        low: beta of the first entry, 0 < low < high; null: the recipe's, for "linear" times 1000 / T as in improved DDPM.
        high: beta of the last entry, < 1; null: likewise. "cosine" has neither.
        s: offset of "cosine", 0 <= s < 1.

    Raises:
        ValueError: for other values.

    Source: Ho et al. 2020 (2006.11239); Rombach et al. 2022 (2112.10752); Nichol & Dhariwal 2021 (2102.09672), eq. 17 and code;
        Xu et al. 2022 (2203.02923).
    """

    betas: Literal["linear", "scaled_linear", "cosine", "sigmoid"] = "linear"
    steps: int = 1000
    low: float | None = None
    high: float | None = None
    s: float = 0.008

    def __post_init__(self) -> None:
        if self.betas not in ("linear", "scaled_linear", "cosine", "sigmoid"):
            raise ValueError(
                f"BetaTable.betas is {self.betas!r}; allowed: 'linear', 'scaled_linear', 'cosine', 'sigmoid'"
            )
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 2:
            raise ValueError(f"BetaTable.steps is {self.steps!r}; allowed: a whole number >= 2")
        if not 0.0 <= self.s < 1.0:
            raise ValueError(f"BetaTable.s is {self.s}; allowed: 0 <= s < 1 (the paper's is 0.008)")
        if self.betas != "cosine" and self.s != 0.008:
            raise ValueError(
                f"BetaTable.s is {self.s}, the offset of 'cosine', which {self.betas!r} does not have; leave it out"
            )
        if self.betas == "cosine":
            if self.low is not None or self.high is not None:
                raise ValueError(
                    "BetaTable: low and high are ends of beta, which 'cosine' does not have; leave them out"
                )
            return
        low, high = self._ends
        if not 0.0 < low < high < 1.0:
            raise ValueError(
                f"BetaTable: beta runs from {low:.6g} to {high:.6g} in {self.steps} steps; allowed: 0 < low < high < 1"
            )

    @property
    def _ends(self) -> tuple[float, float]:
        low, high = _ENDS[self.betas]
        scale = 1000 / self.steps if self.betas == "linear" else 1.0
        return scale * low if self.low is None else self.low, scale * high if self.high is None else self.high

    def _beta(self, i: int) -> float:
        """The beta of entry i."""
        if self.betas == "cosine":
            a, top = ((1.0 - k / self.steps) / (1.0 + self.s) * math.pi / 2 for k in (i, i + 1))
            # 1 - sin^2 top / sin^2 a, without cancellation
            return min(math.sin(a + top) * math.sin(a - top) / math.sin(a) ** 2, 0.999)
        low, high = self._ends
        share = i / (self.steps - 1)
        if self.betas == "scaled_linear":
            return (math.sqrt(low) + share * (math.sqrt(high) - math.sqrt(low))) ** 2
        if self.betas == "sigmoid":
            return low + (high - low) / (1.0 + math.exp(6.0 - 12.0 * share))
        return low + share * (high - low)

    @cached_property
    def table(self) -> Table:
        """The entries."""
        return Table.from_betas(self._beta(i) for i in range(self.steps))

    def __call__(self, t: Number) -> Level:
        return self.table(t)

    def at_log_snr(self, log_snr: Number) -> Level:
        return self.table.at_log_snr(log_snr)

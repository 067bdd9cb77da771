"""Guidance in a limited interval of noise levels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .ask import Ask, Guidance
from .checks import check_number, check_rule
from .rules import CFG
from .space import check_levels
from .tree import Tree, choose

__all__ = ["Interval"]


@dataclass(frozen=True)
class Interval:
    """A rule where low < sigma / alpha <= high, the conditional model elsewhere: two evaluations inside, one outside.

    Decided by the level where the step began, as the authors do, so that the second stage of a step follows the first. Within a
    step of AdaptiveStep each sample has a level of its own, and that level decides. Where levels are per sample the host waits for
    the device; levels per element are refused.

    Args:
        rule: the rule inside.
        low, high: in the unit, low <= high; None: no end. EDM2-S (0.28, 2.90], EDM2-XXL (0.19, 1.61], DiT-XL/2 (0.34, 1.02], SDXL
            (0.28, 5.42], all in sigma / alpha. low = high never guides. To find them: low 0, tune high, then low.
        unit: "ratio", sigma / alpha, the sigma of EDM; or "log_snr", log(alpha^2 / sigma^2), where low is the noisier end and the
            same interval reads low <= log_snr < high.

    Raises:
        ValueError: for other bounds; when asked, for levels per element.

    Source: Kynkaanniemi et al. 2024 (2404.07724), section 3 (their sigma is sigma / alpha).
    """

    rule: Guidance = field(default_factory=CFG)
    low: float | None = None
    high: float | None = None
    unit: Literal["ratio", "log_snr"] = "ratio"

    def __post_init__(self) -> None:
        if self.unit not in ("ratio", "log_snr"):
            raise ValueError(f"Interval.unit is {self.unit!r}; allowed: 'ratio' (sigma / alpha), 'log_snr'")
        check_rule(self, self.rule)
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                check_number(self, name, getattr(self, name), "a number, or null for no end")
        low, high = self._ends()
        if not low <= high or (self.unit == "ratio" and not low >= 0.0):
            raise ValueError(
                f"Interval(low={self.low}, high={self.high}, unit={self.unit}); allowed: "
                f"{'0 <= ' if self.unit == 'ratio' else ''}low <= high, in {'sigma / alpha' if self.unit == 'ratio' else 'log-SNR'}"
            )

    def _ends(self) -> tuple[float, float]:
        least = 0.0 if self.unit == "ratio" else -math.inf
        return least if self.low is None else self.low, math.inf if self.high is None else self.high

    def inside(self, level: Level) -> bool | Tensor:
        """Whether a level is guided; per element for a level of tensors."""
        low, high = self._ends()
        if self.unit == "ratio":
            above, below = level.ratio > low, level.ratio <= high
            return below if self.low is None else above & below  # without an end, a level without noise is inside, too
        above, below = level.log_snr >= low, level.log_snr < high
        return above if self.high is None else above & below

    def init(self, x: Tensor) -> Tree:
        return self.rule.init(x)

    def check(self, levels: Sequence[Level]) -> None:
        check_levels(self.rule, [level for level in levels if not level.is_scalar or self.inside(level)])

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        # a step of one number within which samples are asked at levels of their own
        own = ask.now.is_scalar and not ask.level.is_scalar
        inside = self.inside(ask.level if own else ask.now)
        if not isinstance(inside, Tensor):
            if inside:
                return self.rule(ask, memory)
            (cond,) = ask("cond")
            return cond, memory
        if inside.numel() != 1 and not len(inside) == inside.numel() == len(ask.x):
            raise ValueError("Interval needs one noise level per step or per sample; these are per element")
        on = inside.flatten().expand(len(ask.x)).cpu()
        if not bool(on.any()):
            (cond,) = ask("cond")
            return cond, memory
        part = ask.only(on)
        p, after = self.rule(part, memory)
        if bool(on.all()):
            return p, after
        (cond,) = part("cond")
        index = on.nonzero().squeeze(1)
        return cond.put(index, p.rows(index)), choose(on, after, memory)

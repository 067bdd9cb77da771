"""What filters know of a sample while it is still on its way: their own statistic, read after each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...diffusion.filtered import filter_names
from ...samplers.filters import Calibrated, Filter
from ...samplers.filters.filter import apart
from ...samplers.filters.window import weights
from ...samplers.trajectory import Step
from ...schedules import Level

__all__ = ["Statistic", "Statistics"]


@dataclass
class Statistic:
    """One filter along one path.

    name: of it. speaks: whether it can tell anything before the end. inside: per step, whether it looks at it. bounds: the least and the
    largest score that is kept. so_far: per step that was made, its statistic of all steps until then, None where there is none yet.
    score, kept, reason: at the end.
    """

    name: str
    speaks: bool
    inside: list[bool]
    bounds: tuple[float, float]
    so_far: list[float | None] = field(default_factory=list)
    score: float | None = None
    kept: bool = True
    reason: str = ""


class Statistics:
    """Filters that are asked after each step what they would say if it were the last, by their own code.

    Those that judge the finished picture (they ask the network again) say nothing in between, and are not asked a second time.

    Args:
        filters: on the model's path.
        levels: that are walked along.
    """

    def __init__(self, filters: Sequence[Filter], levels: Sequence[Level]) -> None:
        self._filters, self._levels = list(filters), levels
        self._memories: list[Any] = []
        self.all = [_about(f, name, levels) for f, name in zip(filters, filter_names(filters), strict=True)]

    def see(self, step: Step, x: Tensor) -> None:
        """A step was made.

        Args:
            step: the step.
            x: like the batch.
        """
        if step.index == 0:
            self._memories = [f.init(x, self._levels) if s.speaks else None for f, s in self._each]
            for _, known in self._each:
                known.so_far.clear()
        for place, (f, known) in enumerate(self._each):
            if not known.speaks:
                known.so_far.append(None)
                continue
            own = Step(
                step.index, step.last, step.now, step.level, step.x, step.prediction, step.denoise,
                None if step.noise is None else apart(step.noise, place),
            )  # fmt: skip
            self._memories[place] = f.update(self._memories[place], own)
            seen = any(known.inside[: step.index + 1])
            score = float(f.verdict(self._memories[place]).score[0].float()) if seen else math.nan
            known.so_far.append(None if math.isnan(score) else score)

    @property
    def _each(self) -> list[tuple[Filter, Statistic]]:
        return list(zip(self._filters, self.all, strict=True))


def _about(judge: Filter, name: str, levels: Sequence[Level]) -> Statistic:
    inner = judge.filter if isinstance(judge, Calibrated) else judge
    bounds = (float(getattr(inner, "least", -math.inf)), float(getattr(inner, "threshold", math.inf)))
    if not hasattr(inner, "begins"):
        return Statistic(name, False, [], bounds)
    low, high, last = (getattr(inner, key, None) for key in ("low", "high", "last"))
    if low is None or high is None:
        return Statistic(name, True, [True] * (len(levels) - 1), bounds)
    own = weights(type(inner).__name__, levels, low, high, last, getattr(inner, "weight", "steps"))
    return Statistic(name, True, [w > 0 for w in own], bounds)

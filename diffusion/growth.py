"""Whether numbers within a network grow towards the end of a run: a warning before the loss shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .monitors import Watched

__all__ = ["ACTIVATION_LIMIT", "LOGIT_LIMIT", "Growth"]

LOGIT_LIMIT = 1e4
"""Attention logits of this size put all weight on one key; about there Wortsman et al. 2023 expect a run to be unstable."""

ACTIVATION_LIMIT = 6.5e4
"""About the largest number of half precision, 65504."""

_KINDS = {
    "logit": (
        "attention logits", "attention looks at a single position and hardly learns",
        "lower lr, warm up longer, or normalise queries and keys (QK-norm)",
    ),
    "peak": (
        "activations", "half precision overflows and bfloat16 has few digits left",
        "lower lr, warm up longer, or set weight_decay",
    ),
}  # fmt: skip


class Growth:
    """Judges the largest values that a Monitor gives over all blocks: says once that they grow too fast, and once that they are too large.

    A trend is a line through the logarithms of the last logs. It counts where the value has come within a factor of 100 of its limit, the
    line rises by more than a factor of two and four times its standard error, and it meets the limit before the run ends: what is small
    may well grow fast at the start of a healthy run. A warning is a reason to look, not a verdict: some such runs recover by themselves.

    Args:
        steps: of the whole run, >= 1.
        logits: limit of attention logits, > 0.
        activations: limit of the largest activation of a block, > 0.
        window: logs that a trend is taken over, >= 6, which is also the fewest that make one.

    Raises:
        ValueError: for values out of range.

    Source: Wortsman et al. 2023 (2309.14322), section 3.4.
    """

    def __init__(
        self, steps: int, logits: float = LOGIT_LIMIT, activations: float = ACTIVATION_LIMIT, window: int = 12
    ) -> None:
        if not (steps >= 1 and logits > 0 and activations > 0 and window >= _FEWEST):
            raise ValueError(
                f"Growth(steps={steps}, logits={logits}, activations={activations}, window={window}); allowed: steps >= 1, limits > 0, "
                f"window >= {_FEWEST}"
            )
        self.steps, self.window = steps, window
        self._limits = {"logit": logits, "peak": activations}
        # of each kind: steps and values of the last logs, and what was said: 0 nothing, 1 that it grows, 2 that it is too large
        self._series: dict[str, list[tuple[int, float]]] = {kind: [] for kind in _KINDS}
        self._said = dict.fromkeys(_KINDS, 0)

    def add(self, step: int, seen: Watched) -> list[str]:
        """Take in what was seen in one optimizer step.

        Args:
            step: optimizer steps made.
            seen: by the monitor.

        Returns:
            Warnings, usually none.
        """
        given = {"logit": seen.logit, "peak": seen.peak}
        words = (self._judge(step, kind, values) for kind, values in given.items() if values)
        return [said for said in words if said is not None]

    def _judge(self, step: int, kind: str, values: Mapping[str, float]) -> str | None:
        # what is not a number is the largest of all
        block, value = max(values.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1])
        limit, series, said = self._limits[kind], self._series[kind], self._said[kind]
        subject, meaning, cure = _KINDS[kind]
        now = f"step {step}: {subject} of {block} are as large as {value:.3g}"
        if not value < limit:  # nan, too
            self._said[kind] = 2
            return f"{now}, beyond {limit:.3g}, where {meaning}; {cure}" if said < 2 else None
        series.append((step, value))
        del series[: -self.window]
        span = step - series[0][0]
        meets = _meets(series, limit) if said == 0 and value > limit / 100 else None
        if meets is None or meets > self.steps:
            return None
        self._said[kind] = 1
        return (
            f"{now} and grow: as over the last {span} steps they would be {limit:.3g} at step {meets:.0f} of {self.steps}, where "
            f"{meaning}; {cure}"
        )

    def state(self) -> dict[str, Tensor]:
        """What it knows, for a checkpoint: of each kind what was said, then rows of step and value, float64 (1 + logs, 2)."""
        return {
            kind: torch.tensor([(self._said[kind], 0.0), *series], dtype=torch.float64)
            for kind, series in self._series.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave.

        Raises:
            ValueError: for a state that is not a Growth's.
        """
        if set(state) != set(_KINDS) or any(v.ndim != 2 or v.shape[1] != 2 or not len(v) for v in state.values()):
            raise ValueError(f"the state of a Growth holds {sorted(state)}; allowed: what Growth.state() gave")
        for kind, rows in state.items():
            (said, _), *series = rows.tolist()
            self._said[kind], self._series[kind] = int(said), [(int(step), value) for step, value in series]


_FEWEST = 6


def _meets(series: list[tuple[int, float]], limit: float) -> float | None:
    """The step at which the line through the logarithms meets the limit; None where it does not rise for certain."""
    if len(series) < _FEWEST:
        return None
    middle = sum(step for step, _ in series) / len(series)
    logs = [(step - middle, math.log(max(value, 1e-30))) for step, value in series]
    mean, spread = sum(y for _, y in logs) / len(logs), sum(x * x for x, _ in logs)
    if spread == 0.0:
        return None
    slope = sum(x * y for x, y in logs) / spread
    scatter = sum((y - mean - slope * x) ** 2 for x, y in logs) / (len(logs) - 2)
    span = series[-1][0] - series[0][0]
    # noise without a trend passes two standard errors in one log of twenty, and there are many logs
    if slope * span <= math.log(2.0) or slope <= 4.0 * math.sqrt(scatter / spread):
        return None
    # not before the present step, though the line may have met it: the value has not
    return max(middle + (math.log(limit) - mean) / slope, float(series[-1][0]))

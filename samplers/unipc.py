"""UniPC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..schedules.level import Level
from ..schedules.prediction import Prediction
from .jump import refuse_jump
from .state import Denoise, State, Vector, move
from .weights import exponential_means, lagrange, mix, usable

__all__ = ["UniPC"]


def _clock(level: Level) -> float:
    return float(level.half_log_snr)


@dataclass(frozen=True)
class UniPC:
    """DPM-Solver++ of order p predicts; the evaluation at the predicted point first corrects it (p + 1), then is used again.

    One evaluation per step; the last step is not corrected. Both halves are exponential means of the polynomial through the
    predictions. Where it goes through two of them only (the predictor of order 2, the corrector of order 1), the published code
    replaces the solved weight by 1/2, and there alone its two forms of B(h) differ.

    Args:
        order: p, 1 to 9.
        variant: "bh2" (B = e^h - 1), "bh1" (B = h), or "solved": no weight is replaced and B cancels.

    Raises:
        ValueError: for other values.

    Source: Zhao et al. 2023 (2302.04867), algorithms 1 and 2, section 3.
    """

    order: int = 2
    variant: Literal["bh1", "bh2", "solved"] = "bh2"

    def __post_init__(self) -> None:
        if not isinstance(self.order, int) or not 1 <= self.order <= 9:
            raise ValueError(f"UniPC.order is {self.order}; allowed: 1 to 9 (the paper uses 2 and 3)")
        if self.variant not in ("bh1", "bh2", "solved"):
            raise ValueError(f"UniPC.variant is {self.variant!r}; allowed: 'bh1', 'bh2', 'solved'")

    @property
    def draws(self) -> int:
        return 0

    def _means(self, nodes: Sequence[float], h: float) -> list[float]:
        """Weights at 0 and at the nodes, of the mean over the step [0, h]."""
        if not nodes:
            return [1.0]
        if len(nodes) == 1 and self.variant != "solved":
            half = 0.5 * (h / -math.expm1(-h) if self.variant == "bh1" else 1.0) * h / nodes[0]
            return [1.0 - half, half]
        return lagrange([0.0, *nodes], exponential_means(h, h, len(nodes) + 1))

    def predictor(self, past: Sequence[Level], now: Level, nxt: Level, held: int) -> list[float]:
        """Weights of (D, D_prev, ...) in the mean over the step from now to nxt."""
        readings = usable(_clock, past, now, nxt, min(held, self.order - 1))
        return self._means([v - _clock(now) for v in readings], _clock(nxt) - _clock(now))

    def corrector(self, past: Sequence[Level], now: Level, held: int) -> list[float]:
        """Weights of (D_prev, D, D_prev_prev, ...) in the mean over the step that led to now, from past[-1]."""
        *earlier, before = past
        readings = usable(_clock, earlier, before, now, min(held - 1, self.order - 1))
        h = _clock(now) - _clock(before)
        return self._means([h, *(v - _clock(before) for v in readings)], h)

    def step(
        self, state: State, denoise: Denoise, levels: Sequence[Level], z: tuple[Vector, ...]
    ) -> tuple[State, Prediction]:
        *past, now, nxt = levels
        p = denoise(state.x, now)
        refuse_jump(
            self, p, "its corrector would undo that; take another sampler, such as DPMSolverPP, or another rule"
        )
        if not state.memory:
            return State(move(p, now, nxt), (state.x, p.x0)), p
        last, *old = state.memory  # where the step before began, and D there and before
        before, x = past[-1], state.x
        if before.alpha and before.sigma:  # a step out of pure noise, or up from data, was infinite: nothing to correct
            w = self.corrector(past, now, len(old))
            mean = mix(w, (old[0], p.x0, *old[1:])[: len(w)])
            kept = now.sigma / before.sigma
            x = kept * last + (now.alpha - kept * before.alpha) * mean
        w = self.predictor(past, now, nxt, len(old))
        mean = mix(w, (p.x0, *old)[: len(w)]) if len(w) > 1 else None
        # the answer was made at the prediction; the corrected x differs by noise that the step keeps sigma' / sigma of
        y = move(p, now, nxt, x0=mean) + nxt.sigma / now.sigma * (x - state.x)
        return State(y, (x, *(p.x0, *old)[: self.order])), p

"""LinearAG: the reference, in some steps, as a sum over what has been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction, lerp
from .ask import Ask
from .linear_plan import LinearPlan
from .space import check_space, read, write
from .tree import Tree

__all__ = ["LinearAdaptive", "recalled"]


@dataclass(frozen=True)
class LinearAdaptive:
    """CFG whose reference is asked in some steps only; in the others it is a fitted sum over all that both branches have said.

    One evaluation where it is replaced. The plan is fitted once (`sfumato guidance RUN`), and holds for the model, scale, sampler, number
    of steps and levels that it was fitted with. The scale is the plan's; `Model.sample` refuses other weights, samplers and levels. It
    remembers every step, 2 N tensors like x, and it cannot know a negative prompt that it was not fitted with.

    Args:
        plan: what was fitted, or the file that it was saved to.

    Raises:
        ValueError: for a file that holds no plan; when asked, at other levels than the plan's, by a sampler that asks more than once
            per step, or inside of a rule that leaves steps out.

    Source: Castillo et al. 2023 (2312.12487), LinearAG.
    """

    plan: str | LinearPlan

    def __post_init__(self) -> None:
        if not isinstance(self.plan, LinearPlan):
            object.__setattr__(self, "plan", LinearPlan.load(self.plan))  # the numbers themselves, not where they were

    def init(self, x: Tensor) -> Tree:
        return ()

    def check(self, levels: Sequence[Level]) -> None:
        fitted = self._fitted
        if all(level.is_scalar for level in levels) and len(levels) == len(fitted.steps):
            for k, level in enumerate(levels):
                self._check_level(k, level)
        check_space(self, fitted.space, levels)

    def check_fit(self, sampler: str, model: str) -> None:
        """Refuse another sampler, or other weights, than the plan was fitted with.

        Args:
            sampler: as text (its repr).
            model: the fingerprint of the weights.

        Raises:
            ValueError: naming both.
        """
        fitted = self._fitted
        if fitted.sampler not in (None, sampler):
            raise ValueError(
                f"LinearAdaptive's plan was fitted with the sampler {fitted.sampler}, and this is {sampler}; sample with "
                "that, or fit again: sfumato guidance RUN --sampler ..."
            )
        if fitted.model is not None and fitted.model != model:
            raise ValueError(
                "LinearAdaptive's plan was fitted with other weights than these (another run, checkpoint, or not the averaged ones); fit "
                "again: sfumato guidance RUN"
            )

    @property
    def _fitted(self) -> LinearPlan:
        assert isinstance(self.plan, LinearPlan)
        return self.plan

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        plan, k = self._fitted, ask.step
        self._check_place(ask, memory)
        entry = plan.steps[k]
        if entry is None:
            cond, ref = ask("cond", plan.against)
            said = read(ask, cond, plan.space), read(ask, ref, plan.space)
            return lerp(ref, cond, plan.scale), (*memory, *said)
        (cond,) = ask("cond")
        own = read(ask, cond, plan.space)
        ref = cond if not entry else write(ask, cond, plan.space, recalled(entry, memory, own))
        seen = own if not entry else read(ask, ref, plan.space)
        return cond if not entry else lerp(ref, cond, plan.scale), (*memory, own, seen)

    def _check_place(self, ask: Ask, memory: Tree) -> None:
        k = ask.step
        if not (ask.now.is_scalar and ask.level.is_scalar) or ask.level.ratio != ask.now.ratio:
            raise ValueError(
                "LinearAdaptive is fitted for samplers that ask once per step, at one level for all samples; such as DDIM or DPMSolverPP"
            )
        if len(memory) != 2 * k:
            raise ValueError("LinearAdaptive has not seen every step; let it be the outermost rule, not in an Interval")
        self._check_level(k, ask.now)

    def _check_level(self, k: int, now: Level) -> None:
        plan = self._fitted
        if k >= len(plan.steps) or not math.isclose(float(now.ratio), plan.ratios[k], rel_tol=1e-6):
            fitted = (
                f"sigma / alpha {plan.ratios[k]:.6g}"
                if k < len(plan.steps)
                else f"an end after {len(plan.steps)} steps"
            )
            raise ValueError(
                f"LinearAdaptive: step {k} begins at sigma / alpha {float(now.ratio):.6g}, and the plan was fitted for {fitted}; "
                "sample with the steps and grid of the plan, or fit again"
            )


def recalled(weights: Sequence[float], memory: Sequence[Tensor], own: Tensor) -> Tensor:
    """The fitted sum: weights over cond and reference of each past step, then over cond of this one."""
    total = weights[-1] * own
    for w, past in zip(weights[:-1], memory, strict=True):
        if w:
            total = total.add(past, alpha=w)
    return total

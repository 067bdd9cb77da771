"""Fitting LinearAG: a rule that guides, and learns on its way which sum stands for the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from ..schedules.level import Level
from ..schedules.prediction import Prediction, lerp
from ..schedules.rows import Eps, Row
from .ask import Ask
from .linear_adaptive import recalled
from .linear_plan import LinearPlan
from .space import check_space, read, write
from .tree import Tree

__all__ = ["LinearFit", "least_squares"]

Kind = Literal["ask", "replace", "plain"]
CHUNK = 1 << 16


@dataclass
class LinearFit:
    """Walk a batch of trajectories under this rule, and `plan` is what it has learned: one fit per replaced step, in their order.

    In a replaced step both branches are asked, the weights are fitted over the whole batch (least squares over all elements), and the
    trajectories go on with the estimate, not with the truth: later steps are fitted on the errors that earlier ones will make.

    Args:
        scale: of guidance, as CFG's.
        kind: step number -> "ask", "replace" or "plain" (not guided).
        space: in which the sum is taken, any row; the paper's is eps.
        against: the branch that is replaced.
        ridge: relative to the mean square of the regressors, >= 0: keeps weights small where regressors say the same.

    Source: Castillo et al. 2023 (2312.12487), LinearAG; the sequential fit and the ridge are ours.
    """

    scale: float
    kind: Callable[[int], Kind]
    space: Row = field(default_factory=Eps)
    against: str = "ref"
    ridge: float = 1e-9
    steps: list[Sequence[float] | None] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    residuals: list[float | None] = field(default_factory=list)

    def init(self, x: Tensor) -> Tree:
        self.steps, self.ratios, self.residuals = [], [], []
        return ()

    def check(self, levels: Sequence[Level]) -> None:
        check_space(self, self.space, levels)

    def plan(self, about: str = "", sampler: str | None = None, model: str | None = None) -> LinearPlan:
        """What was fitted; about, sampler, model: with what, see LinearPlan."""
        return LinearPlan(
            self.scale, tuple(self.steps), tuple(self.ratios), self.space, self.against, about, sampler, model
        )

    def __call__(self, ask: Ask, memory: Tree) -> tuple[Prediction, Tree]:
        if not (ask.now.is_scalar and ask.level.is_scalar) or ask.level.ratio != ask.now.ratio:
            raise ValueError("LinearFit needs a sampler that asks once per step; take DDIM, DPMSolverPP, UniPC, ...")
        kind = self.kind(ask.step)
        if kind not in ("ask", "replace", "plain"):
            raise ValueError(f"LinearFit.kind({ask.step}) is {kind!r}; allowed: 'ask', 'replace', 'plain'")
        self.ratios.append(float(ask.now.ratio))
        if kind == "plain":
            (cond,) = ask("cond")
            own = read(ask, cond, self.space)
            self.steps.append(())
            self.residuals.append(None)
            return cond, (*memory, own, own)
        cond, ref = ask("cond", self.against)
        own, truth = read(ask, cond, self.space), read(ask, ref, self.space)
        if kind == "ask":
            self.steps.append(None)
            self.residuals.append(None)
            return lerp(ref, cond, self.scale), (*memory, own, truth)
        weights = least_squares([*memory, own], truth, self.ridge)
        estimate = recalled(weights, memory, own)
        self.steps.append(tuple(weights))
        apart = (estimate - truth).double().square().sum() / truth.double().square().sum()
        self.residuals.append(float(apart.sqrt()))
        return lerp(write(ask, cond, self.space, estimate), cond, self.scale), (*memory, own, estimate)


def least_squares(regressors: Sequence[Tensor], wanted: Tensor, ridge: float = 0.0) -> list[float]:
    """One weight per regressor, least squares over all elements, in float64.

    The tall matrix is reduced to a small triangle in chunks (QR), which keeps its condition, then solved with the least norm, so that
    regressors that say the same are no trouble.

    Args:
        regressors: at least one, each like wanted.
        wanted: of any shape.
        ridge: relative to the mean square of the regressors, >= 0.
    """
    flat = [v.detach().reshape(-1) for v in (*regressors, wanted)]
    triangle = torch.zeros(0, len(flat), dtype=torch.float64)
    for i in range(0, len(flat[0]), CHUNK):
        rows = torch.stack([v[i : i + CHUNK].to("cpu", torch.float64) for v in flat], 1)
        triangle = torch.linalg.qr(torch.cat([triangle, rows]), mode="r").R
    a, b = triangle[:, :-1], triangle[:, -1:]
    if ridge:
        size = float((ridge * a.square().sum() / a.shape[1]) ** 0.5)
        a = torch.cat([a, size * torch.eye(a.shape[1], dtype=torch.float64)])
        b = torch.cat([b, torch.zeros(a.shape[1], 1, dtype=torch.float64)])
    return torch.linalg.lstsq(a, b, driver="gelsd").solution.squeeze(1).tolist()
